"""What is shipped beside the code: the entries of the zoo, and archives of what is too large.

Both are made by commands from stores of finished runs, the same from the same store, with the
checksums in the repository.
"""

from trueboundary.release.archives import build_archives
from trueboundary.release.zoo_export import ExportError, export_zoo
from trueboundary.release.zoo_measurements import Effort

__all__ = ["Effort", "ExportError", "build_archives", "export_zoo"]

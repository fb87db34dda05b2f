"""Figures and the report: one self-contained page made from stored runs alone.

Experiments draw with `trueboundary.figures`; `trueboundary.report.build` puts a report
together. Nothing is imported here, so that drawing a figure does not load the report.
"""

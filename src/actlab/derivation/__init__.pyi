from . import kernels as kernels
from .making import FormulaActivation as FormulaActivation
from .making import Recipe as Recipe
from .making import formula as formula

from . import elementary as elementary
from .formula_activation import FormulaActivation as FormulaActivation
from .formula_activation import Recipe as Recipe
from .formula_activation import formula as formula

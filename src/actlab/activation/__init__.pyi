from . import numerics as numerics
from .definition import Activation as Activation
from .definition import Facts as Facts
from .definition import elementwise as elementwise
from .export_mode import exporting as exporting
from .fused_kernels import fused as fused
from .module import ActivationModule as ActivationModule
from .module import TrainedModule as TrainedModule

from .dask import Cluster as Cluster
from .processes import Engine as Engine
from .processes import Processes as Processes

from .ledger import Ledger as Ledger
from .records import StoredRun as StoredRun

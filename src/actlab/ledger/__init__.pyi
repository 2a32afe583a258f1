from .ledger import Ledger as Ledger
from .records import Entry as Entry

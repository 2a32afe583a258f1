from .fleet_search import FleetSearchCV as FleetSearchCV

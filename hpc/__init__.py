"""What every service needs to be brought up: recipe, site, plan, scheduler, scripts, records.

It imports contracts, engines and retrieval; never a service, which is what imports it.
"""

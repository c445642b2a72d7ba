"""Names that the code must not use again, because the field has better ones.

``MODULES`` and ``CLASSES`` apply to all code, and ``WORDS`` to the identifiers of the services.
"""

MODULES = frozenset(
    """
addresses albums answering answers breaker bulk cache_server cache_web changes classes contrast
conversations converted descent drawings entries evidence expressions flights formats forms
inventory ledger library lifts maps mixed openai_api opposites orders own pairs partitions passages
pictures places prices quantised query_dialect rag_messages ranges reads rebuilds refusals replies
samples searches served serving shelf signs sounds status tally trials trips upload_messages
uploads upstream versions waiting web worth
""".split()
)

CLASSES = frozenset(
    """
Answering Answers Asked Breaker Bulk Calibrated CannotLoad Card Colours Conversation Cut Described
Doorkeeper Eager Effort Evidence Extractive Face Flight Flights InMemory Inventory Kept Known
Ledger Library Lift Marks Measured Mixed Neighbours Noted Order Outgoing OwnNetwork Partitions
Place Places Prepared Purged Reads Rebuilds Recalled Refused Said Served Shared Shelf Side Sighting
Tally Told Trips Turn TurnLost Verdict Waiting
""".split()
)

WORDS = frozenset(
    """
admit asked at_once doorkeeper faces fewest flight flights hottest kept ledger lift lifted lifts
looked noted places said shelf signs tally told trips worth
""".split()
)

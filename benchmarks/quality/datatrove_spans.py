"""What datatrove's PIIFormatter finds, with its own expressions: JSON lists of texts in, of spans out.

Run where datatrove is installed; `redaction_quality.py` makes an environment for it.
"""

from __future__ import annotations

import json
import sys

from datatrove.pipeline.formatters import PIIFormatter

formatter = PIIFormatter()
replacers = (("EMAIL_ADDRESS", formatter.emails_replacer), ("IP_ADDRESS", formatter.ip_replacer))
found = [
    [
        (*match.span(), entity)
        for entity, replacer in replacers
        for match in replacer.regex.finditer(text)
        if replacer.validator is None or replacer.validator(match.group())
    ]
    for text in json.load(sys.stdin)
]
json.dump(found, sys.stdout)

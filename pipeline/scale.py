"""stub"""


def task_bytes(plan):
    return 1 << 30


def estimate_stages(size, redact=False):
    return []

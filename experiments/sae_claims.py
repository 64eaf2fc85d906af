"""x"""


def record_all(found): ...

"""x"""


def draw(found): ...

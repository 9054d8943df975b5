"""What the tests of the virtual port ask for there, and how they read the answer."""

IQN, SECRET_IQN = "iqn.2024-01.lab.a1:disk", "iqn.2024-01.lab.a1:private"
HOST = "iqn.2024-01.lab.h1:host"
MOVED, MOVED_FOR_EVER = 0x0101, 0x0102


def sent_to(login) -> str:
    assert login.status in (MOVED, MOVED_FOR_EVER), hex(login.status)
    return login.keys["TargetAddress"]

"""Which user an image's app runs as: a number, or a name of its /etc/passwd. Pure."""


def is_name(user: str) -> bool:
    """Returns whether a container's `User` is a name, whose number is in its /etc/passwd."""
    name = user.partition(":")[0]
    return bool(name) and not name.isdecimal()


def numeric_user(user: str, passwd: str) -> int:
    """Returns the user id that a container's `User` means, by the text of its /etc/passwd.

    A name that is not there is root, as the container would not start.
    """
    name = user.partition(":")[0]
    if not is_name(user):
        return int(name or 0)
    for line in passwd.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2 and fields[2].isdecimal():
            return int(fields[2])
    return 0


def numeric_pair(user: str, passwd: str) -> str:
    """Returns user and group as numbers, `uid:gid`, by the text of an /etc/passwd; "" for none.

    A group that is named is the user's own.
    """
    name, _, group = user.partition(":")
    for line in passwd.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 3 and fields[2].isdecimal():
            return f"{fields[2]}:{group if group.isdecimal() else fields[3]}"
    return ""

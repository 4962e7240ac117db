"""Numbers as people read them."""


def duration(seconds: float | None) -> str:
    """Return seconds in the two units that suit them; "?" where nothing is known."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if days < 10 else f"{days:,} days"


def ago(time: float | None, now: float) -> str:
    """Return how long before `now` something was."""
    return "never" if time is None else f"{duration(max(0.0, now - time))} ago"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many digits that count; "-" where there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"

"""Lets through what is too hot, whichever gateway it comes from."""

LIMIT = 80.0


def handler(data):
    if data["highest"] < LIMIT:
        return None
    return {**data, "alarm": f"{data['gateway']} on line {data['line']}: {data['highest']:.1f} degrees"}

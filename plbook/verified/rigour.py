"""How far a number is proved: the words that every record uses."""

# From the weakest: what was found, what float64 says, what is proved of numbers as float64 has them, what is proved.
RIGOURS = ("estimate", "float bound", "verified linear algebra", "verified")
ESTIMATE, _, VERIFIED_LINEAR_ALGEBRA, VERIFIED = RIGOURS


def weakest(rigours):
    """The weakest of them: what holds of a number made of several."""
    return min(rigours, key=RIGOURS.index)

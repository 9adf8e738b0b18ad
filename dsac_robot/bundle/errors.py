"""The one error of this room."""


class BundleError(ValueError):
    """A bundle, card, key or model is refused. The message names the file or field, what is wrong and what to do."""

"""How secrets of OAuth clients are stored."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class RandomSecretHasher(PBKDF2PasswordHasher):
    """For secrets of clients. They are long and random, so a slow hash would cost time and add nothing."""

    algorithm = "pbkdf2_sha256_random"
    iterations = 1

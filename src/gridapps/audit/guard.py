"""Triggers of the database that keep the table append-only, whatever the application does."""

from django.db.backends.base.base import BaseDatabaseWrapper

_SENTENCE = "The audit is append-only."
_INSTALL = {
    "sqlite": [
        "CREATE TRIGGER IF NOT EXISTS audit_entry_{verb} BEFORE {VERB} ON audit_entry "
        f"BEGIN SELECT RAISE(ABORT, '{_SENTENCE}'); END"
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_SENTENCE}' USING ERRCODE = 'restrict_violation'; END $$",
        "CREATE OR REPLACE TRIGGER audit_entry_{verb} BEFORE {VERB} ON audit_entry "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_refuse()",
    ],
}
_VERBS = {"sqlite": ("UPDATE", "DELETE"), "postgresql": ("UPDATE", "DELETE", "TRUNCATE")}
_REMOVE = {
    "sqlite": "DROP TRIGGER IF EXISTS audit_entry_{verb}",
    "postgresql": "DROP TRIGGER IF EXISTS audit_entry_{verb} ON audit_entry",
}


def install(connection: BaseDatabaseWrapper) -> None:
    """Install the triggers. Idempotent.

    A migration that rebuilds the table on SQLite drops them, and must call this again.
    """
    _execute(connection, _INSTALL[connection.vendor])


def remove(connection: BaseDatabaseWrapper) -> None:
    """Remove the triggers: for migrations that rebuild the table, and tests that empty the database."""
    _execute(connection, [_REMOVE[connection.vendor]])


def _execute(connection: BaseDatabaseWrapper, statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for verb in _VERBS[connection.vendor]:
            for statement in statements:
                cursor.execute(statement.format(verb=verb.lower(), VERB=verb))

"""What keeps the table append-only: triggers in the database, so that no code of ours needs to be trusted."""

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
    """Close the table. Idempotent. SQLite forgets triggers when a migration rebuilds the table: call it there
    again."""
    _execute(connection, _INSTALL[connection.vendor])


def remove(connection: BaseDatabaseWrapper) -> None:
    """Open the table again: for a migration that rebuilds it, and for tests that empty the database."""
    _execute(connection, [_REMOVE[connection.vendor]])


def _execute(connection: BaseDatabaseWrapper, statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for verb in _VERBS[connection.vendor]:
            for statement in statements:
                cursor.execute(statement.format(verb=verb.lower(), VERB=verb))

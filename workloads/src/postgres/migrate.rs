//! Tables and their versions: made when they are absent, brought up to date when they are older than this program, and left
//! alone when they are newer than it can be.
//!
//! ```text
//!   look ─┬─ up to date, or newer and fit for us ─► go on                      two questions, no lock
//!         ├─ newer, and not for us ───────────────► refused: a person decides
//!         └─ absent, or older ─► BEGIN, lock ─► look again ─► the steps that lack ─► note the version ─► COMMIT
//! ```
//!
//! The lock is one advisory lock of the database. So of many nodes that start at once one does the work and the others find
//! it done; and since it is one transaction, a node that dies in the middle has done nothing.
//!
//! `annulus_schema` has a row for each set of tables: its `version`, and the `least` version that a program must know to go
//! on with them. A step that only adds leaves `least` as it was, and nodes of the release before go on beside new ones
//! while a fleet is replaced. Everybody may read it, so a user with rights to use the tables is enough where somebody else
//! has made them. Tables of releases before there was `annulus_schema` have their version in a comment.

use super::session::Session;
use super::trouble::Trouble;

/// What makes a version out of the one before it.
#[derive(Debug)]
pub struct Step {
    /// Statements, with semicolons between.
    pub words: &'static str,
    /// What a program must know at least to go on with the tables afterwards, as a version.
    pub least: i32,
}

/// A set of tables and its history.
#[derive(Debug)]
pub struct Schema {
    /// What it is called in `annulus_schema`, and towards people.
    pub name: &'static str,
    /// One of its tables, there from the first version on. Where it is absent all is made anew.
    pub table: &'static str,
    /// The first one makes version 1, and so on.
    pub steps: &'static [Step],
}

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Absent,
    /// Tables that this program did not make.
    Foreign,
    /// Ours.
    Ours {
        /// Their version.
        version: i32,
        /// What a program must know at least.
        least: i32,
    },
}

/// `annulus` in ASCII.
const LOCK: &str = "x'616e6e756c7573'::bigint";
/// Tables in use are waited for so long, since all that comes after us waits, too; then it is tried again later.
const LOCK_TIMEOUT: &str = "5s";

/// Where versions are. Made once: whoever has other tables in the same schema does not own it.
const VERSIONS: &str = "\
DO $$ BEGIN
IF NOT EXISTS (
    SELECT FROM pg_catalog.pg_class WHERE relname = 'annulus_schema' AND pg_catalog.pg_table_is_visible(oid)
) THEN
    CREATE TABLE annulus_schema (
        name text PRIMARY KEY,
        version integer NOT NULL,
        least integer NOT NULL,
        changed timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE annulus_schema IS
        'versions of the tables of annulus; least: what a program must know to go on with them';
    GRANT SELECT ON annulus_schema TO PUBLIC;
END IF;
END $$;
";

impl Schema {
    /// The version that this program knows.
    pub fn version(&self) -> i32 {
        i32::try_from(self.steps.len()).unwrap_or(i32::MAX)
    }

    /// Makes sure that the tables are there and fit.
    ///
    /// # Errors
    /// They do not, or the server does not let us make them.
    pub async fn ensure(&self, session: &mut Session) -> Result<(), Trouble> {
        match self.is_fit(self.look(session).await?)? {
            true => Ok(()),
            false => self.migrate(session).await,
        }
    }

    /// What is there, without changing anything.
    ///
    /// # Errors
    /// The server does not tell.
    pub async fn look(&self, session: &mut Session) -> Result<Standing, Trouble> {
        // Read from the catalog itself: `to_regclass` may answer out of what this session knew before it waited for the lock.
        let words = format!(
            "SELECT relname, substring(pg_catalog.obj_description(oid, 'pg_class') from '^annulus schema (\\d+)') \
             FROM pg_catalog.pg_class WHERE relname IN ('{}', 'annulus_schema') AND pg_catalog.pg_table_is_visible(oid)",
            self.table
        );
        let (mut comment, mut has_versions) = (None, false);
        for row in session.query(&words).await? {
            match row.text(0)? {
                "annulus_schema" => has_versions = true,
                _ => comment = Some(row.text(1)?.to_owned()),
            }
        }
        let Some(comment) = comment else { return Ok(Standing::Absent) };
        if has_versions {
            let words = format!("SELECT version, least FROM annulus_schema WHERE name = '{}'", self.name);
            if let Some(row) = session.query(&words).await?.first() {
                return Ok(Standing::Ours { version: number(row.text(0)?)?, least: number(row.text(1)?)? });
            }
        }
        match comment.as_str() {
            "" => Ok(Standing::Foreign),
            // Then there was one version only.
            version => number(version).map(|version| Standing::Ours { version, least: version }),
        }
    }

    /// Whether what is there can be used as it is; otherwise it is to be migrated.
    ///
    /// # Errors
    /// Neither: a person has to decide.
    pub fn is_fit(&self, standing: Standing) -> Result<bool, Trouble> {
        let (name, table, known) = (self.name, self.table, self.version());
        match standing {
            Standing::Absent => Ok(false),
            Standing::Foreign => Err(Trouble::setup(format!(
                "there is a table {table} that annulus did not make. Fix: rename it, or give annulus another schema \
                 (options=-c search_path=...)"
            ))),
            Standing::Ours { least, .. } if least > known => Err(Trouble::setup(format!(
                "the tables of {name} are of a newer annulus: they need version {least} at least, and this one knows \
                 {known}. Nothing was changed. Fix: run the newer release, or give this one another schema \
                 (options=-c search_path=...)"
            ))),
            Standing::Ours { version, .. } => Ok(version >= known),
        }
    }

    /// Makes the tables, or brings them up to date; what another node has done meanwhile is not done again.
    ///
    /// # Errors
    /// Nothing was changed then.
    pub async fn migrate(&self, session: &mut Session) -> Result<(), Trouble> {
        let begin = format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SELECT pg_advisory_xact_lock({LOCK})");
        if let Err(trouble) = session.query(&begin).await {
            if trouble.session_lives {
                session.query("ROLLBACK").await?;
            }
            return Err(trouble);
        }
        match self.migrate_locked(session).await {
            Ok(()) => session.query("COMMIT").await.map(drop),
            Err(trouble) => {
                if trouble.session_lives {
                    session.query("ROLLBACK").await?;
                }
                Err(trouble)
            }
        }
    }

    async fn migrate_locked(&self, session: &mut Session) -> Result<(), Trouble> {
        let standing = self.look(session).await?;
        if self.is_fit(standing)? {
            return Ok(());
        }
        let (from, to) = match standing {
            Standing::Ours { version, .. } => (version.max(0), self.version()),
            Standing::Absent | Standing::Foreign => (0, self.version()),
        };
        session.query(VERSIONS).await?;
        let lacking = self.steps.iter().skip(usize::try_from(from).unwrap_or(0));
        for step in lacking {
            session.query(step.words).await?;
        }
        let least = self.steps.last().map_or(0, |step| step.least);
        let note = format!(
            "INSERT INTO annulus_schema (name, version, least) VALUES ('{}', {to}, {least}) ON CONFLICT (name) DO UPDATE \
             SET version = excluded.version, least = excluded.least, changed = now()",
            self.name
        );
        session.query(&note).await?;
        match from {
            0 => crate::say!("{}: made its tables in PostgreSQL, version {to}", self.name),
            _ => crate::say!("{}: its tables in PostgreSQL were version {from} and are version {to} now", self.name),
        }
        Ok(())
    }
}

fn number(text: &str) -> Result<i32, Trouble> {
    text.parse().map_err(|_| Trouble::protocol(&format!("{text:?} is no version")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Kind;

    #[test]
    fn what_is_there_decides() {
        let step = || Step { words: "", least: 1 };
        let steps: &'static [Step] = Box::leak(Box::new([step(), step()]));
        let schema = Schema { name: "chat", table: "t", steps };
        let ours = |version, least| schema.is_fit(Standing::Ours { version, least });
        assert!(!schema.is_fit(Standing::Absent).unwrap());
        assert!(!ours(1, 1).unwrap(), "older");
        assert!(ours(2, 1).unwrap() && ours(2, 2).unwrap());
        // Of a later release, which says that we may go on.
        assert!(ours(9, 2).unwrap());
        for refused in [ours(3, 3), schema.is_fit(Standing::Foreign)] {
            let refused = refused.unwrap_err();
            assert!(refused.kind == Kind::Setup && refused.to_string().contains("Fix:"), "{refused}");
        }
    }
}

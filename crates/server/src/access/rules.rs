//! Which path takes which scopes. `docs/security.md` has the same table for people.

use super::scope::Scope::{Infer, Metrics, Train};
use super::scope::Scopes;

/// The scopes of which one is needed for a path, or `None` if it is open to everybody.
///
/// The path is taken as it was written. One that is written otherwise than it is known here, and still leads somewhere, is the
/// administrator's alone.
pub(crate) fn needed(path: &str) -> Option<Scopes> {
    let needed = match path {
        "/healthz/live" | "/healthz/ready" | "/healthz/startup" | "/openapi.json" | "/docs" => return None,
        "/output" => const { Scopes::of(&[Infer]) },
        // An id cannot be guessed: whoever knows it was told by who submitted the job.
        "/status" => const { Scopes::of(&[Infer, Train]) },
        "/train" | "/input" | "/jobs" | "/models" => const { Scopes::of(&[Train]) },
        "/metrics" => const { Scopes::of(&[Metrics]) },
        _ if path.starts_with("/docs/") => return None,
        _ if path.starts_with("/jobs/") => const { Scopes::of(&[Train]) },
        _ => Scopes::ADMIN,
    };
    Some(needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::ApiDocument;
    use utoipa::OpenApi;

    const DOCUMENTED: &str = include_str!("../../../../docs/security.md");

    fn documented(path: &str) -> Option<&'static str> {
        let row = DOCUMENTED.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{path}`")))?;
        row.split('|').nth(2).map(str::trim)
    }

    #[test]
    fn every_path_is_documented_with_its_scopes() {
        for path in ApiDocument::openapi().paths.paths.keys().map(String::as_str).chain(["/openapi.json", "/docs"]) {
            let scopes = needed(path).map_or("open".to_owned(), |scopes| {
                let words: Vec<_> = scopes.iter().map(|scope| format!("`{}`", scope.as_str())).collect();
                words.join(" or ")
            });
            assert_eq!(documented(path), Some(scopes.as_str()), "{path} in docs/security.md");
        }
    }

    #[test]
    fn a_path_written_otherwise_is_the_administrators() {
        for path in ["/OUTPUT", "/%6fUTPUT", "/output/", "//output", "/healthz/live/..", "/healthz/x", "/docs2", "/job", "/", ""] {
            assert_eq!(needed(path), Some(Scopes::ADMIN), "{path}");
        }
    }
}

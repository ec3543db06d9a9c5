//! The rules in the description of the interface.

use utoipa::Modify;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, OpenApi, SecurityRequirement};

use super::rules;
use super::scope::Scopes;
use crate::routes::{operations, problem};

const SCHEME: &str = "token";

/// Adds to each path what it takes to be let in, where tokens are needed.
pub(crate) struct Described;

impl Modify for Described {
    fn modify(&self, document: &mut OpenApi) {
        let description = "A token of the server, with a scope that the path takes.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme(SCHEME, SecurityScheme::Http(scheme));
        for (path, item) in &mut document.paths.paths {
            if let Some(needed) = rules::needed(path) {
                operations(item).for_each(|operation| guard(operation, needed));
            }
        }
    }
}

fn guard(operation: &mut Operation, needed: Scopes) {
    let one_of = needed.iter().map(|scope| SecurityRequirement::new(SCHEME, [scope.as_str()]));
    operation.security = Some(one_of.collect());
    for (status, description) in [("401", "The token is missing or not known"), ("403", "The token lacks the scope")] {
        operation.responses.responses.insert(status.to_owned(), problem(description));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use utoipa::OpenApi as _;

    use super::*;
    use crate::routes::ApiDocument;

    #[test]
    fn what_takes_a_token_says_so() {
        let mut document = ApiDocument::openapi();
        assert!(!serde_json::to_string(&document).unwrap().contains("security"), "where none is needed, nothing is said of them");
        Described.modify(&mut document);
        let document: Value = serde_json::to_value(document).unwrap();
        let scheme = &document["components"]["securitySchemes"]["token"];
        assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
        let operation = |path: &str, method: &str| document["paths"][path][method].clone();
        assert_eq!(operation("/output", "post")["security"], json!([{"token": ["infer"]}]));
        assert_eq!(operation("/status", "get")["security"], json!([{"token": ["infer"]}, {"token": ["train"]}]));
        assert_eq!(operation("/jobs/{id}", "delete")["security"], json!([{"token": ["train"]}]));
        assert_eq!(operation("/models/{version}/activate", "post")["security"], json!([{"token": ["admin"]}]));
        assert_eq!(operation("/healthz/ready", "get")["security"], Value::Null);
        for status in ["401", "403"] {
            let body = &operation("/train", "post")["responses"][status]["content"]["application/problem+json"];
            assert_eq!(body["schema"]["$ref"], "#/components/schemas/ProblemBody", "{status}");
        }
    }
}

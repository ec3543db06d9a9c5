//! The settings of who may do what.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use dunnage_server::{AccessConfig, TlsConfig, Tokens};

use super::secret::{self, Secret};
use super::value;

/// Who may do what, and how connections are encrypted.
#[derive(Debug, Clone, Args)]
pub(crate) struct AccessSettings {
    /// A file of tokens and what each allows, which others may not read; it may change while the server runs
    #[arg(long, env = "DUNNAGE_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// More tokens, each like `infer,train TOKEN`, with `;` between them
    #[arg(long, env = "DUNNAGE_TOKENS", value_name = "TOKENS", hide_env_values = true, value_parser = secret::parser())]
    pub(crate) tokens: Option<Secret>,
    /// The server's certificate in PEM, followed by those that lead to its authority; connections are encrypted with it
    #[arg(long, env = "DUNNAGE_TLS_CERT", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM, which others may not read
    #[arg(long, env = "DUNNAGE_TLS_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tls_key: Option<PathBuf>,
    /// An origin, such as `https://app.example`, whose pages may use the service in browsers; repeatable
    #[arg(long, env = "DUNNAGE_ALLOWED_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = value::origin)]
    pub(crate) allowed_origin: Vec<String>,
}

impl AccessSettings {
    /// The configuration, its files known to be usable now.
    pub(super) fn config(&self, problems: &mut Vec<String>) -> AccessConfig {
        let (tokens, tls) = (self.tokens(problems), self.tls(problems));
        if let Some(file) = &self.token_file
            && let Err(error) = Tokens::read(file)
        {
            problems.push(format!("`--token-file`: {}", chain(&error)));
        }
        AccessConfig { tokens, token_file: self.token_file.clone(), allowed_origins: self.allowed_origin.clone(), tls }
    }

    /// Whether anybody has to say who they are.
    pub(crate) fn has_tokens(&self) -> bool {
        self.tokens.is_some() || self.token_file.is_some()
    }

    fn tokens(&self, problems: &mut Vec<String>) -> Tokens {
        let Some(text) = &self.tokens else { return Tokens::default() };
        match Tokens::parse(text.reveal()) {
            Ok(tokens) if tokens.is_empty() => problems.push("`--tokens` is blank".to_owned()),
            Ok(tokens) => return tokens,
            Err(error) => problems.push(format!("`--tokens`: {error}")),
        }
        Tokens::default()
    }

    fn tls(&self, problems: &mut Vec<String>) -> Option<TlsConfig> {
        match (self.tls_cert.clone(), self.tls_key.clone()) {
            (Some(certificate), Some(key)) => {
                let tls = TlsConfig { certificate, key };
                problems.extend(tls.check().err().map(|error| format!("`--tls-cert` and `--tls-key`: {}", chain(&error))));
                Some(tls)
            }
            (None, None) => None,
            (Some(_), None) => alone("--tls-cert", "--tls-key", problems),
            (None, Some(_)) => alone("--tls-key", "--tls-cert", problems),
        }
    }
}

fn alone(given: &str, missing: &str, problems: &mut Vec<String>) -> Option<TlsConfig> {
    problems.push(format!("`{given}` is of no use without `{missing}`"));
    None
}

fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        settings: AccessSettings,
    }

    fn problems(arguments: &[&str]) -> Vec<String> {
        let mut problems = Vec::new();
        Only::parse_from([&["serve"], arguments].concat()).settings.config(&mut problems);
        problems
    }

    #[test]
    fn tokens_are_told_by_their_line_only() {
        assert_eq!(problems(&["--tokens", &format!("infer {TOKEN}; admin {TOKEN}x")]), [""; 0]);
        assert_eq!(problems(&["--tokens", " # nothing"]), ["`--tokens` is blank"]);
        let [problem] = problems(&["--tokens", "admin hush"]).try_into().unwrap();
        assert!(problem.starts_with("`--tokens`: line 1: a token has 32 to 512 ") && !problem.contains("hush"), "{problem}");
    }

    #[test]
    fn a_file_of_tokens_must_be_one_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let problem = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let found = problems(&["--token-file", path.to_str().unwrap()]);
            found.first().map(|problem| problem.replace(path.to_str().unwrap(), "F"))
        };
        let right = format!("admin {TOKEN}\n");
        assert_eq!(problem(&right, 0o600), None);
        let open = "`--token-file`: `F` is open to everybody on this machine; close it with `chmod o-rw F`";
        assert_eq!(problem(&right, 0o644).as_deref(), Some(open));
        assert_eq!(
            problem("# none\n", 0o600).as_deref(),
            Some("`--token-file`: there is no token in `F`, so that nobody could come in")
        );
        assert!(problem("admin hush", 0o600).unwrap().starts_with("`--token-file`: `F` is no list of tokens: line 1: a token has"));
    }

    #[test]
    fn a_certificate_needs_its_key() {
        assert_eq!(problems(&["--tls-cert", "c.pem"]), ["`--tls-cert` is of no use without `--tls-key`"]);
        assert_eq!(problems(&["--tls-key", "k.pem"]), ["`--tls-key` is of no use without `--tls-cert`"]);
        let [problem] = problems(&["--tls-cert", "/nowhere/c.pem", "--tls-key", "/nowhere/k.pem"]).try_into().unwrap();
        assert!(problem.starts_with("`--tls-cert` and `--tls-key`: `/nowhere/c.pem` cannot be read: No such file"), "{problem}");
    }
}

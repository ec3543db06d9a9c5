//! What a script is to work on: files and parameters, from the command line to a request's body.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use dunnage_types::{FileAddress, JsonObject};
use serde_json::{Value, json};

use super::multipart::Multipart;
use crate::failure::Usage;

/// The files and parameters of a request.
#[derive(Debug, Args)]
pub(crate) struct Work {
    /// Local files to upload, or else addresses (`s3://…`, `file://…`) that the service fetches
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    files: Vec<String>,
    /// The parameters for the script, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object, conflicts_with = "param")]
    params: Option<Params>,
    /// One parameter for the script; its value is JSON if it can be, and text otherwise
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    param: Vec<(String, Value)>,
}

/// A request's body, ready to be sent.
pub(crate) struct Body {
    pub(super) content_type: String,
    pub(super) length: u64,
    pub(super) reader: Box<dyn Read>,
}

impl Work {
    /// The body that says all this, uploading the files if they are local.
    ///
    /// # Errors
    ///
    /// [`Usage`] if a parameter is given twice, addresses and local files are mixed, an address is none, or a local file cannot
    /// be read.
    pub(crate) fn into_body(self, wishes: &JobWishes) -> Result<Body, Usage> {
        let params = self.params.map_or_else(|| each_once(self.param), |params| Ok(params.0))?;
        match Files::sort(&self.files)? {
            Files::Addresses(addresses) => Ok(json_body(&addresses, params, wishes)),
            Files::Local(paths) => upload(&paths, params, wishes),
        }
    }
}

/// What only jobs have.
#[derive(Debug, Default, Args)]
pub(crate) struct JobWishes {
    /// Jobs with the same key run one at a time, in order
    #[arg(long)]
    key: Option<String>,
    /// An https URL that the service posts the job's end to, signed
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    callback: Option<String>,
    /// Where in S3 the service writes the result, too: an object, or with `/` at the end a folder for one named by the job's id
    #[arg(long, value_name = "URI", value_hint = ValueHint::Url)]
    output_uri: Option<String>,
}

impl JobWishes {
    /// Those there are, each with its name in the body.
    fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fields = [("Key", &self.key), ("Callback", &self.callback), ("OutputUri", &self.output_uri)];
        fields.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

enum Files {
    Addresses(Vec<String>),
    Local(Vec<PathBuf>),
}

impl Files {
    fn sort(names: &[String]) -> Result<Self, Usage> {
        let (addresses, local): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.contains("://"));
        match (addresses.as_slice(), local.as_slice()) {
            ([address, ..], [path, ..]) => Err(Usage(format!(
                "a request has either local files, which are uploaded, or addresses, which the service fetches; `{path}` is a \
                 local file, `{address}` an address"
            ))),
            (_, []) => Self::addresses(addresses),
            ([], _) => Ok(Self::Local(local.into_iter().map(PathBuf::from).collect())),
        }
    }

    fn addresses(texts: Vec<&String>) -> Result<Self, Usage> {
        let wrong = texts.iter().find_map(|text| text.parse::<FileAddress>().err().map(|error| (text, error)));
        match wrong {
            Some((text, error)) => Err(Usage(format!("`{text}`: {error}"))),
            None => Ok(Self::Addresses(texts.into_iter().cloned().collect())),
        }
    }
}

fn each_once(pairs: Vec<(String, Value)>) -> Result<JsonObject, Usage> {
    let mut params = JsonObject::new();
    for (key, value) in pairs {
        if params.contains_key(&key) {
            return Err(Usage(format!(
                "`--param {key}=…` is given twice; several values are written as a list: `--param '{key}=[1, 2]'`"
            )));
        }
        params.insert(key, value);
    }
    Ok(params)
}

fn json_body(addresses: &[String], params: JsonObject, wishes: &JobWishes) -> Body {
    let mut object = JsonObject::from_iter([("Files".to_owned(), json!(addresses))]);
    if !params.is_empty() {
        object.insert("Params".to_owned(), params.into());
    }
    object.extend(wishes.fields().map(|(name, value)| (name.to_owned(), value.into())));
    let text = Value::Object(object).to_string();
    Body { content_type: "application/json".to_owned(), length: text.len() as u64, reader: Box::new(Cursor::new(text)) }
}

fn upload(paths: &[PathBuf], params: JsonObject, wishes: &JobWishes) -> Result<Body, Usage> {
    let mut form = Multipart::new();
    if !params.is_empty() {
        form.text("Params", &Value::Object(params).to_string());
    }
    wishes.fields().for_each(|(name, value)| form.text(name, value));
    for path in paths {
        form.file("file", path, file_length(path)?);
    }
    Ok(Body { content_type: form.content_type(), length: form.length(), reader: Box::new(form.into_reader()) })
}

fn file_length(path: &Path) -> Result<u64, Usage> {
    let shown = path.display();
    let unreadable = |error| Usage(format!("cannot read `{shown}`: {error}"));
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Usage(format!("`{shown}` is a folder; name the files in it")));
    }
    if !metadata.is_file() {
        return Err(Usage(format!("`{shown}` is a pipe or a device, whose length is not known; write it to a file first")));
    }
    // Opened now, so that a file nobody may read is told before anything is sent; not sooner, for a pipe would make us wait.
    std::fs::File::open(path).map_err(unreadable)?;
    Ok(metadata.len())
}

/// A JSON object in one piece. A type of its own because clap takes a plain map for a repeated option.
#[derive(Debug, Clone, PartialEq)]
struct Params(JsonObject);

fn json_object(text: &str) -> Result<Params, String> {
    let wanted = r#"the parameters are a JSON object such as {"user": "ada"}"#;
    serde_json::from_str(text).map(Params).map_err(|error| format!("{wanted}; {error}"))
}

fn key_and_value(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
            Ok((key.to_owned(), value))
        }
        _ => Err("a parameter is written like user=ada or rate=0.1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(files: &[&str]) -> Work {
        Work { files: files.iter().map(|&name| name.to_owned()).collect(), params: None, param: Vec::new() }
    }

    fn sent(body: Body) -> (String, String) {
        let mut text = String::new();
        let mut reader = body.reader;
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.len() as u64, body.length);
        (body.content_type, text)
    }

    #[test]
    fn a_parameter_is_json_if_it_can_be() {
        for (text, key, value) in [
            ("user=ada", "user", json!("ada")),
            ("rate=0.1", "rate", json!(0.1)),
            ("on=true", "on", json!(true)),
            ("labels=[1, 2]", "labels", json!([1, 2])),
            ("id=\"7\"", "id", json!("7")),
            ("query=a=b", "query", json!("a=b")),
            ("empty=", "empty", json!("")),
        ] {
            assert_eq!(key_and_value(text), Ok((key.to_owned(), value)), "{text}");
        }
        assert_eq!(key_and_value("user"), Err("a parameter is written like user=ada or rate=0.1".to_owned()));
        assert!(key_and_value("=ada").is_err());
    }

    #[test]
    fn a_parameter_is_given_once() {
        let mut work = work(&["s3://faces/a"]);
        work.param = vec![("x".to_owned(), json!(1)), ("x".to_owned(), json!(2))];
        let error = work.into_body(&JobWishes::default()).err().unwrap().to_string();
        assert_eq!(error, "`--param x=…` is given twice; several values are written as a list: `--param 'x=[1, 2]'`");
    }

    #[test]
    fn parameters_are_an_object() {
        assert_eq!(json_object(r#"{"a": 1}"#).unwrap().0["a"], 1);
        assert!(json_object("[1]").unwrap_err().starts_with(r#"the parameters are a JSON object such as {"user": "ada"}; "#));
    }

    #[test]
    fn addresses_are_sent_as_json() {
        let mut work = work(&["s3://faces/a.bin", "file:///data/b.bin"]);
        work.param = vec![("user".to_owned(), json!("ada"))];
        let wishes = JobWishes {
            key: Some("ada".to_owned()),
            callback: Some("https://example.com/hook".to_owned()),
            output_uri: Some("s3://results/".to_owned()),
        };
        let (content_type, text) = sent(work.into_body(&wishes).unwrap());
        assert_eq!(content_type, "application/json");
        assert_eq!(
            text,
            concat!(
                r#"{"Callback":"https://example.com/hook","Files":["s3://faces/a.bin","file:///data/b.bin"],"Key":"ada","#,
                r#""OutputUri":"s3://results/","Params":{"user":"ada"}}"#
            )
        );
    }

    #[test]
    fn files_and_addresses_do_not_mix() {
        let error = work(&["s3://faces/a", "b.csv"]).into_body(&JobWishes::default()).err().unwrap().to_string();
        assert_eq!(
            error,
            "a request has either local files, which are uploaded, or addresses, which the service fetches; `b.csv` is a local \
             file, `s3://faces/a` an address"
        );
    }

    #[test]
    fn a_wrong_address_is_refused_before_anything_is_sent() {
        let error = |name| work(&[name]).into_body(&JobWishes::default()).err().unwrap().to_string();
        assert_eq!(error("http://a/b"), "`http://a/b`: a file is named `s3://bucket/key` or `file:///absolute/path`");
        assert_eq!(error("s3://faces"), "`s3://faces`: an object key has 1 to 1024 bytes and no control characters");
    }

    #[test]
    fn a_local_file_must_be_readable() {
        let error = |name| work(&[name]).into_body(&JobWishes::default()).err().unwrap().to_string();
        assert_eq!(error("/nowhere/a.csv"), "cannot read `/nowhere/a.csv`: No such file or directory (os error 2)");
        assert_eq!(error("/"), "`/` is a folder; name the files in it");
        assert_eq!(error("/dev/null"), "`/dev/null` is a pipe or a device, whose length is not known; write it to a file first");
    }
}

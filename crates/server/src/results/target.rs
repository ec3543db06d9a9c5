//! The object that a result goes to, as clients may name it.

use dunnage_types::{FileAddress, JobId, ObjectPrefix};

use crate::problem::{Code, Problem};

/// Accepts a client's `OutputUri` for a job, or says why not. One that ends with `/` is completed with the job's id.
///
/// # Errors
///
/// A [`Problem`] with the code `output_uri_refused`, whatever is wrong with it.
pub(crate) fn accept(uri: &str, job: JobId, allowed: &[ObjectPrefix]) -> Result<FileAddress, Problem> {
    find(uri, job, allowed).map_err(|reason| Problem::new(Code::OutputUriRefused, format!("`OutputUri` {reason}")))
}

fn find(uri: &str, job: JobId, allowed: &[ObjectPrefix]) -> Result<FileAddress, String> {
    let whole = if uri.ends_with('/') { format!("{uri}{job}.json") } else { uri.to_owned() };
    // Files have other forms, too, and what is wrong with those is of no interest here.
    if !whole.starts_with("s3://") {
        return Err("must begin with `s3://`".to_owned());
    }
    let address: FileAddress = whole.parse().map_err(|error| format!("is no object in S3: {error}"))?;
    match &address {
        FileAddress::S3 { version_id: Some(_), .. } => Err("may not name a version: each write makes one of its own".to_owned()),
        FileAddress::S3 { bucket, key, .. } if allowed.iter().any(|place| place.holds(bucket, key)) => Ok(address),
        _ => Err("is no place where this server writes results (`--allow-output`)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_ALLOWED: &str = "is no place where this server writes results (`--allow-output`)";

    fn list(places: &[&str]) -> Vec<ObjectPrefix> {
        places.iter().map(|place| place.parse().unwrap()).collect()
    }

    fn found(uri: &str, places: &[&str]) -> Result<String, String> {
        find(uri, JobId::from(uuid::Uuid::nil()), &list(places)).map(|address| address.to_string())
    }

    #[test]
    fn a_folder_gets_an_object_named_by_the_job() {
        let named = |folder: &str| Ok(format!("{folder}00000000-0000-0000-0000-000000000000.json"));
        for folder in ["s3://results/", "s3://results/a/b/", "s3://results/a//"] {
            assert_eq!(found(folder, &["s3://results"]), named(folder));
        }
    }

    #[test]
    fn everything_else_is_the_object_itself() {
        for uri in ["s3://results/a.json", "s3://results/ä b/../c", "s3://results/a?b#c"] {
            assert_eq!(found(uri, &["s3://results"]), Ok(uri.to_owned()));
        }
    }

    #[test]
    fn only_places_that_are_allowed_are_written_to() {
        let places = ["s3://results/gait/", "s3://scratch"];
        assert!(found("s3://results/gait/1.json", &places).is_ok() && found("s3://scratch/1.json", &places).is_ok());
        for uri in ["s3://results/1.json", "s3://results/gaits/1.json", "s3://results/", "s3://other/gait/1.json"] {
            assert_eq!(found(uri, &places), Err(NOT_ALLOWED.to_owned()), "{uri}");
        }
        assert_eq!(found("s3://results/1.json", &[]), Err(NOT_ALLOWED.to_owned()), "by default, there is no such place");
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_reason() {
        let key = "is no object in S3: an object key has 1 to 1024 bytes and no control characters";
        let version = "may not name a version: each write makes one of its own";
        for (uri, reason) in [
            ("", "must begin with `s3://`"),
            ("/", "must begin with `s3://`"),
            ("file:///data/1.json", "must begin with `s3://`"),
            ("https://results/1.json", "must begin with `s3://`"),
            ("upload:00000000-0000-0000-0000-000000000000/a", "must begin with `s3://`"),
            ("s3://results", key),
            ("s3://results/a\nb", key),
            ("s3://results/1.json?versionId=7", version),
            ("s3://results/1.json?versionId=7/", version),
        ] {
            assert_eq!(found(uri, &["s3://results"]), Err(reason.to_owned()), "{uri:?}");
        }
        assert!(found("s3://Results/a", &["s3://results"]).unwrap_err().starts_with("is no object in S3: a bucket name has"));
    }

    #[test]
    fn the_jobs_name_must_fit_into_the_key() {
        let folder = |bytes: usize| format!("s3://results/{}/", "k".repeat(bytes - 1));
        assert!(found(&folder(1024 - 41), &["s3://results"]).is_ok());
        assert!(found(&folder(1024 - 40), &["s3://results"]).unwrap_err().starts_with("is no object in S3: an object key"));
    }

    #[test]
    fn a_problem_tells_which_field_it_is_about() {
        let problem = accept("a", JobId::random(), &[]).unwrap_err();
        assert_eq!((problem.code(), problem.detail()), (Code::OutputUriRefused, "`OutputUri` must begin with `s3://`"));
    }
}

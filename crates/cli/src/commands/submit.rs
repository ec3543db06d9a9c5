//! `dunnage train` and `dunnage input`: submits a job, and waits for it unless told not to.

use std::process::ExitCode;

use clap::Args;
use dunnage_types::{JobKind, JobState};

use crate::client::answer::{Job, Submitted};
use crate::client::request::{JobWishes, Work};
use crate::client::{Connection, follow, show};
use crate::text::{print, short_time};

/// Teach the model
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage train data/*.csv                            upload, and wait with a progress bar
  dunnage train file:///data/walks.csv --param epochs=20
  dunnage train data.csv --no-wait                    print the job's id and return
  dunnage train data.csv --json | jq .result
  dunnage train data.csv --no-wait --callback https://example.com/hook --output-uri s3://results/gait/

Exits with 1 if the job ends in an error. Ctrl-C stops waiting only; the job goes on.")]
pub(crate) struct Train {
    #[command(flatten)]
    submission: Submission,
}

/// Feed the model ordinary data, in the background
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage input walk.csv --param user=ada --key ada   jobs of one key run one after the other
  dunnage input file:///data/ada.csv --no-wait

Exits with 1 if the job ends in an error. Ctrl-C stops waiting only; the job goes on.")]
pub(crate) struct Input {
    #[command(flatten)]
    submission: Submission,
}

#[derive(Debug, Args)]
struct Submission {
    #[command(flatten)]
    work: Work,
    #[command(flatten)]
    wishes: JobWishes,
    /// A name for this request: sent again with the same one, it makes no second job
    #[arg(long, value_name = "NAME")]
    idempotency_key: Option<String>,
    /// Return as soon as the job is accepted
    #[arg(long)]
    no_wait: bool,
    /// Print only JSON on standard output: the job at its end, or with --no-wait its id
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Train {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        self.submission.run(JobKind::Train)
    }
}

impl Input {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        self.submission.run(JobKind::Input)
    }
}

impl Submission {
    fn run(self, kind: JobKind) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        let body = self.work.into_body(&self.wishes)?;
        let accepted = client.post(&format!("/{kind}"), body, self.idempotency_key.as_deref())?;
        let id = accepted.read::<Submitted>()?.job_id;
        if self.no_wait {
            print(if self.json { accepted.text } else { id.to_string() })?;
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("{kind} job {id}");
        let (job, answer) = follow::wait(&client, id)?;
        if self.json {
            print(answer.text)?;
        }
        tell_end(&job, self.json)?;
        Ok(if job.state == JobState::Done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Tells people how it ended; a script's result goes to standard output, unless the whole job is there already.
fn tell_end(job: &Job, json: bool) -> std::io::Result<()> {
    if job.state == JobState::Done {
        let time = job.finished_at.map_or(String::new(), |end| format!(" in {}", short_time(show::between(job.created_at, end))));
        let version = job.version.map_or(String::new(), |version| format!(", published as version {version}"));
        eprintln!("done{time}{version}");
        return job.result.iter().filter(|_| !json).try_for_each(print);
    }
    match &job.error {
        Some(error) => eprintln!("error: job {} failed: {} (code `{}`)", job.job_id, error.message, error.code),
        None => eprintln!("error: job {} was cancelled", job.job_id),
    }
    Ok(())
}

//! Protection on Amazon ECS: asks the container agent not to end this task, for want of work or for a deployment, while a job runs here.
//!
//! [`protect`] is the loop, [`Protection`] decides when the agent is asked for what, and [`Agent`] asks. The agent is a hint: whatever
//! ECS ends all the same hands its jobs back, as at any other SIGTERM.

use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::Beat;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::app::App;
use crate::blocking::on_thread;
use crate::problem::chain;

/// How long the agent is asked to protect the task, in its unit. A server that hangs is unprotected after that.
const MINUTES: u64 = 10;
/// When it is asked anew, while a job runs.
const RENEWAL: Duration = Duration::from_mins(MINUTES / 2);
/// How long the task stays protected after its last job, so that the agent is not asked twice for each of many short ones.
const LINGER: Duration = Duration::from_secs(5);
/// The wait after the agent has refused or could not be reached.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps the task protected while an attempt runs here, until the server ends.
pub(super) async fn protect(app: Arc<App>, agent: Arc<Agent>, beat: Beat) {
    let mut busy = app.running.busy();
    let mut protection = Protection::default();
    let mut told = None;
    while !beat.is_told_to_end() {
        let is_busy = *busy.borrow_and_update();
        match protection.next(is_busy, Instant::now()) {
            Step::Ask(wanted) => {
                beat.within(PATIENCE);
                let answer = ask(&agent, wanted).await;
                protection.answered(wanted, answer.is_ok(), Instant::now());
                tell(&mut told, answer.err());
            }
            Step::Wait(wait) => {
                beat.within(wait);
                tokio::select! {
                    _ = busy.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                    () = beat.told_to_end() => {}
                }
            }
        }
    }
}

async fn ask(agent: &Arc<Agent>, wanted: bool) -> Result<(), String> {
    let agent = Arc::clone(agent);
    let asked = on_thread("ecs-agent", move || agent.ask(wanted)).await;
    asked.unwrap_or_else(|error| Err(error.to_string()))
}

/// Has the log tell of a failure once, and not each time it is met.
fn tell(told: &mut Option<String>, failure: Option<String>) {
    if let Some(error) = failure.as_ref().filter(|failure| told.as_ref() != Some(failure)) {
        tracing::warn!(error, "Amazon ECS may end this task while a job runs; it is asked again");
    }
    *told = failure;
}

/// What is known of the protection of this task.
#[derive(Debug, Default)]
struct Protection {
    /// When the agent is to be asked anew; `None` while the task is not protected.
    renewal: Option<Instant>,
    /// Since when no attempt has run; `None` while one does.
    idle_since: Option<Instant>,
    /// Until when the agent is left alone.
    pause: Option<Instant>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Ask the agent for protection, or for its end.
    Ask(bool),
    /// Wait until that changes whether an attempt runs, and so long at most.
    Wait(Duration),
}

impl Protection {
    /// What follows from whether an attempt runs now.
    fn next(&mut self, is_busy: bool, now: Instant) -> Step {
        self.idle_since = if is_busy { None } else { self.idle_since.or(Some(now)) };
        if let Some(pause) = self.pause.filter(|pause| *pause > now) {
            return Step::Wait(pause - now);
        }
        let over = self.idle_since.map(|since| since + LINGER);
        match (self.renewal, over) {
            (None, None) => Step::Ask(true),
            (Some(renewal), None) if renewal <= now => Step::Ask(true),
            (Some(renewal), None) => Step::Wait(renewal - now),
            (Some(_), Some(over)) if over <= now => Step::Ask(false),
            (Some(_), Some(over)) => Step::Wait(over - now),
            (None, Some(_)) => Step::Wait(RENEWAL),
        }
    }

    /// Notes how the agent answered.
    fn answered(&mut self, wanted: bool, is_done: bool, now: Instant) {
        if is_done {
            self.renewal = wanted.then(|| now + RENEWAL);
        }
        self.pause = (!is_done).then(|| now + AFTER_FAILURE);
    }
}

/// The container agent of Amazon ECS, as a task reaches it.
pub(super) struct Agent {
    http: ureq::Agent,
    url: String,
}

impl Agent {
    /// The agent at `ECS_AGENT_URI`.
    pub(super) fn new(uri: &str) -> Self {
        // The agent lies behind a link-local address, to which no proxy leads.
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(Some(PATIENCE)).build();
        Self { http: config.into(), url: format!("{}/task-protection/v1/state", uri.trim_end_matches('/')) }
    }

    /// Asks for protection or for its end, and blocks until that is answered. An error says why it was not granted.
    fn ask(&self, wanted: bool) -> Result<(), String> {
        let body = if wanted {
            json!({"ProtectionEnabled": true, "ExpiresInMinutes": MINUTES})
        } else {
            json!({"ProtectionEnabled": false})
        };
        let mut response = self.http.put(&self.url).send_json(&body).map_err(|error| chain(&error))?;
        let status = response.status();
        let answer =
            response.body_mut().read_json::<Value>().map_err(|error| format!("it answered {status}: {}", chain(&error)))?;
        judge(&answer, wanted).map_err(|reason| format!("it answered {status}: {reason}"))
    }
}

/// Whether an answer says that the protection is as it was asked for, or else why not.
fn judge(answer: &Value, wanted: bool) -> Result<(), &str> {
    if answer["protection"]["ProtectionEnabled"] == wanted {
        return Ok(());
    }
    let reasons = [&answer["failure"]["Reason"], &answer["error"]["Message"], &answer["error"]["Code"]];
    Err(reasons.into_iter().find_map(Value::as_str).unwrap_or("no protection, and no reason"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_task_is_protected_from_its_first_job_until_a_while_after_its_last() {
        let (mut protection, start) = (Protection::default(), Instant::now());
        assert_eq!(protection.next(false, start), Step::Wait(RENEWAL));
        assert_eq!(protection.next(true, start), Step::Ask(true));
        protection.answered(true, true, start);
        assert_eq!(protection.next(true, start), Step::Wait(RENEWAL));
        let end = start + SECOND;
        assert_eq!(protection.next(false, end), Step::Wait(LINGER));
        assert_eq!(protection.next(true, end + SECOND), Step::Wait(RENEWAL - 2 * SECOND), "the next job follows at once");
        assert_eq!(protection.next(false, end + SECOND), Step::Wait(LINGER));
        assert_eq!(protection.next(false, end + SECOND + LINGER), Step::Ask(false));
        protection.answered(false, true, end + SECOND + LINGER);
        assert_eq!(protection.next(false, end + 2 * LINGER), Step::Wait(RENEWAL));
    }

    #[test]
    fn a_long_job_renews_the_protection_well_before_it_ends() {
        let (mut protection, start) = (Protection::default(), Instant::now());
        assert_eq!(protection.next(true, start), Step::Ask(true));
        protection.answered(true, true, start);
        assert_eq!(protection.next(true, start + RENEWAL), Step::Ask(true));
        assert!(RENEWAL + AFTER_FAILURE + 2 * PATIENCE < Duration::from_mins(MINUTES));
    }

    #[test]
    fn an_agent_that_fails_is_left_alone_for_a_while_and_asked_again() {
        let (mut protection, start) = (Protection::default(), Instant::now());
        assert_eq!(protection.next(true, start), Step::Ask(true));
        protection.answered(true, false, start);
        assert_eq!(protection.next(true, start + SECOND), Step::Wait(AFTER_FAILURE - SECOND));
        assert_eq!(protection.next(true, start + AFTER_FAILURE), Step::Ask(true));
        protection.answered(true, true, start + AFTER_FAILURE);
        assert_eq!(protection.next(true, start + AFTER_FAILURE), Step::Wait(RENEWAL));
    }

    #[test]
    fn an_answer_grants_what_it_says_and_nothing_else() {
        let granted =
            json!({"protection": {"ProtectionEnabled": true, "ExpirationDate": "2026-01-01T00:10:00Z", "TaskArn": "arn"}});
        assert_eq!(judge(&granted, true), Ok(()));
        assert_eq!(judge(&granted, false), Err("no protection, and no reason"));
        let blocked = json!({"requestID": "1", "failure": {"Arn": "arn", "Reason": "DEPLOYMENT_BLOCKED"}});
        assert_eq!(judge(&blocked, true), Err("DEPLOYMENT_BLOCKED"));
        let denied = json!({"error": {"Arn": "arn", "Code": "AccessDeniedException", "Message": "may not"}});
        assert_eq!(judge(&denied, true), Err("may not"));
    }
}

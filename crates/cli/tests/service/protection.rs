//! Protection on Amazon ECS: when the container agent is asked for it, and what its refusal does, which is nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::language::Language;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

/// How long a question may take to come; the server leaves an agent that has refused alone for ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Runs until a file stands beside it.
const WAITS: &str = "
import pathlib, time

def input(files, ctx):
    while not pathlib.Path('go').exists():
        time.sleep(0.01)
";

/// What a task sees of the container agent: it answers one question after the other, and notes them.
struct Agent {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Agent {
    /// One that refuses so often and then grants everything.
    fn refusing(refusals: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let question = read(&stream);
                let refuses = noted.lock().unwrap().len() < refusals;
                let (status, answer) = if refuses { ("400 Bad Request", refusal()) } else { ("200 OK", grant(&question)) };
                noted.lock().unwrap().push(question);
                let length = answer.len();
                // A server that has been killed meanwhile does not read it.
                drop(write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}"));
            }
        });
        Self { address, asked }
    }

    fn uri(&self) -> String {
        format!("http://{}/api/5f2c", self.address)
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually(&format!("the agent is asked {count} times"), PATIENCE, || {
            Some(self.asked()).filter(|asked| asked.len() >= count)
        })
    }
}

fn read(stream: &TcpStream) -> Value {
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_ascii_lowercase()
    };
    assert_eq!(next(), "put /api/5f2c/task-protection/v1/state http/1.1");
    let head: Vec<_> = std::iter::from_fn(|| Some(next()).filter(|line| !line.is_empty())).collect();
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn grant(question: &Value) -> String {
    json!({"protection": {"ProtectionEnabled": question["ProtectionEnabled"], "TaskArn": "arn"}}).to_string()
}

fn refusal() -> String {
    json!({"failure": {"Arn": "arn", "Reason": "DEPLOYMENT_BLOCKED"}}).to_string()
}

fn setup(agent: &Agent) -> Setup {
    Setup::inline(Language::Python, "waits", WAITS).flags(&["--ecs-task-protection"]).environment("ECS_AGENT_URI", &agent.uri())
}

#[track_caller]
fn let_go(setup: &Setup, service: &Service, job: &str) {
    std::fs::write(setup.folder().join("go"), "").unwrap();
    assert_eq!(service.ended(job)["status"], "done");
}

#[test]
fn a_task_is_protected_while_a_job_runs_and_not_afterwards() {
    let agent = Agent::refusing(0);
    let setup = setup(&agent);
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({})));
    let protect = json!({"ProtectionEnabled": true, "ExpiresInMinutes": 10});
    assert_eq!(agent.wait_for(1), std::slice::from_ref(&protect));
    assert_eq!(service.status(&job)["state"], "running");
    let_go(&setup, &service, &job);
    assert_eq!(agent.wait_for(2), [protect, json!({"ProtectionEnabled": false})]);
    service.terminate();
}

#[test]
fn a_refusal_is_told_and_asked_about_again_and_costs_no_job() {
    let agent = Agent::refusing(1);
    let setup = setup(&agent);
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({})));
    agent.wait_for(2);
    assert!(agent.asked().iter().all(|question| question["ProtectionEnabled"] == true));
    assert!(service.log().iter().any(|line| line.contains("DEPLOYMENT_BLOCKED")), "{:?}", service.log());
    let_go(&setup, &service, &job);
    service.terminate();
}

#[test]
fn a_server_asks_no_agent_unless_it_is_told_to() {
    let agent = Agent::refusing(0);
    let setup = Setup::inline(Language::Python, "waits", WAITS).environment("ECS_AGENT_URI", &agent.uri());
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({})));
    let_go(&setup, &service, &job);
    service.terminate();
    assert_eq!(agent.asked(), [] as [Value; 0]);
}

#[test]
fn a_server_that_is_to_ask_an_agent_where_there_is_none_does_not_start() {
    let (status, said) = Setup::inline(Language::Python, "waits", WAITS).flags(&["--ecs-task-protection"]).refused();
    assert!(!status.success() && said.contains("`--ecs-task-protection` needs `ECS_AGENT_URI`"), "{said}");
}

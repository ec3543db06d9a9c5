//! `with-servers` gives a command its servers, and they end with it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dunnage_testing::census::eventually;
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);
/// Says where the S3 server is, in a line of its own.
const WHERE: &str = "echo ${AWS_ENDPOINT_URL#http://}";

fn with_servers(arguments: &[&str], script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_with-servers"));
    command.args(arguments).args(["--", "sh", "-c", script]);
    command
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// Starts a command that says where its S3 server is.
fn start(script: &str) -> (Child, SocketAddr) {
    let mut command = with_servers(&["--s3", "moto"], script);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().parse().unwrap())
}

fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_command_finds_its_servers_in_its_environment_and_its_status_is_passed_on() {
    let names = "$DATABASE_URL $AWS_ENDPOINT_URL $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY $AWS_REGION $DUNNAGE_TEST_BUCKET";
    let output = with_servers(&["--postgres", "--s3", "moto"], &format!("echo {names}; exit 7")).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    let words: Vec<String> = String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect();
    let [database, endpoint, _, _, region, bucket] = words.as_slice() else { panic!("{words:?}") };
    assert!(database.starts_with("postgres://postgres@127.0.0.1:"), "{database}");
    assert_eq!((region.as_str(), bucket.as_str()), ("us-east-1", "dunnage"));
    assert!(!listens(endpoint.trim_start_matches("http://").parse().unwrap()), "the server has ended with the command");
}

#[test]
fn a_command_that_a_signal_ends_counts_as_128_and_the_signal() {
    assert_eq!(with_servers(&[], "kill -KILL $$").status().unwrap().code(), Some(137));
    let mut missing = Command::new(env!("CARGO_BIN_EXE_with-servers"));
    let output = missing.args(["--", "/no/such/program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("`/no/such/program` cannot be run: "));
}

#[test]
fn a_request_to_end_is_passed_on_and_the_servers_outlive_the_command() {
    let (mut child, address) = start(&format!("trap 'kill $!; exit 3' TERM; sleep 60 & {WHERE}; wait $!; exit 5"));
    assert!(listens(address));
    kill(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(!listens(address));
}

#[test]
fn an_interrupt_is_left_to_the_command() {
    let (mut child, address) = start(&format!("{WHERE}; read line; exit 4"));
    kill(&child, Signal::INT);
    assert!(listens(address));
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert!(!listens(address));
}

#[test]
fn the_servers_end_even_when_it_is_killed() {
    let (mut child, address) = start(&format!("{WHERE}; read line"));
    kill(&child, Signal::KILL);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    eventually("the server ends", PATIENCE, || (!listens(address)).then_some(()));
}

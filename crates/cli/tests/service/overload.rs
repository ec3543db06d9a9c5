//! More requests than the workers can answer: some are refused at once, so that the rest are answered in time.
//!
//! `DUNNAGE_OVERLOAD_SECS` makes the rounds longer than the few seconds they usually take.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::{Request, Response};
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::{Service, vector};
use dunnage_testing::setup::Setup;
use serde_json::json;

in_both_languages!(
    a_script_that_waits_is_used_to_capacity_under_three_times_its_load,
    a_script_that_computes_is_used_to_capacity_under_three_times_its_load,
    ten_thousand_requests_at_once_are_each_answered_or_refused,
    requests_whose_clients_hang_up_leave_their_places_at_once,
    what_cannot_be_answered_in_time_is_refused_at_once,
    a_refusal_leaves_its_connection_in_step,
);

/// How many times the load may be tried: another program on this machine may take its time away.
const ROUNDS: usize = 3;
/// The part of the capacity that has to be used, on a machine that has nothing else to do and on one that has.
const USED: [f64; 2] = [0.9, 0.6];
/// Within how long 99 of 100 refusals have to come, on the same two.
const PROMPT: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];
/// Held by whoever measures, so that two do not measure each other.
static MEASURING: Mutex<()> = Mutex::new(());
/// How long a client of the open loop waits for its answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// What is left of the patience for an answer when its request had to wait.
const QUEUE_WAIT: &str = "500ms";
/// What the server may take up more in memory than before the load, in KiB.
const MORE_MEMORY: u64 = 48 << 10;

fn round_time() -> Duration {
    let secs = std::env::var("DUNNAGE_OVERLOAD_SECS").map_or(4, |secs| secs.parse().expect("DUNNAGE_OVERLOAD_SECS is a number"));
    Duration::from_secs(secs)
}

/// A script whose calls take a few milliseconds, and answer the number they were given.
fn script(language: Language, does: &str) -> String {
    match language {
        Language::Python => {
            let line = if does == "waits" { "time.sleep(0.01)" } else { "sum(range(1_000_000))" };
            format!("import time\ndef output(files, ctx):\n    {line}\n    return [ctx.params['number']]\n")
        }
        Language::Lua => {
            let line = if does == "waits" { "ffi.C.usleep(10000)" } else { "for n = 1, 2000000 do sum = (sum + n) % 1013 end" };
            format!(
                "local ffi, sum = require('ffi'), 0\nffi.cdef('int usleep(unsigned microseconds);')\n\
                 return {{ output = function(_, ctx)\n  {line}\n  return {{ ctx.params.number }}\nend }}\n"
            )
        }
    }
}

fn ask(file: &str, number: u32) -> Request {
    Request::new("POST", "/output").json(&json!({"Files": [file], "Params": {"number": number}}))
}

/// What became of one request of the open loop.
struct Outcome {
    number: u32,
    took: Duration,
    /// Since the loop began.
    ended: Duration,
    /// `None` when none came in time.
    response: Option<Response>,
}

fn rss(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap()
}

/// How many requests are answered in a second when a few clients ask again as soon as they have their answer.
fn capacity(file: &str, service: &Service, time: Duration) -> f64 {
    let begin = Instant::now();
    let count = || {
        let mut answered = 0_u32;
        while begin.elapsed() < time {
            service.send(&ask(file, 1)).expect(200);
            answered += 1;
        }
        answered
    };
    let answered: u32 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    f64::from(answered) / begin.elapsed().as_secs_f64()
}

/// Asks at a steady rate, whatever becomes of the requests before.
fn open_loop(file: &str, service: &Service, rate: f64, time: Duration) -> Vec<Outcome> {
    let (begin, address) = (Instant::now(), service.address());
    std::thread::scope(|scope| {
        let mut asking = Vec::new();
        for number in 1_u32.. {
            let due = Duration::from_secs_f64(f64::from(number) / rate);
            if due > time {
                break;
            }
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
            let request = ask(file, number).patience(PATIENCE);
            asking.push(scope.spawn(move || {
                let asked = Instant::now();
                let response = request.send(address).ok();
                Outcome { number, took: asked.elapsed(), ended: begin.elapsed(), response }
            }));
        }
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    })
}

/// Whether more is running on this machine than it has processors, in the last minute and apart from us: 0 for no, 1 for yes.
fn machine_is_busy() -> usize {
    let average = std::fs::read_to_string("/proc/loadavg").unwrap();
    let running: f64 = average.split(' ').next().unwrap().parse().unwrap();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    usize::from(running > f64::from(u32::try_from(processors).unwrap()))
}

/// What is wrong with a round, if anything is that the machine may be to blame for. Everything else fails at once.
fn trouble(outcomes: &[Outcome], capacity: f64, time: Duration, busy: usize) -> Option<String> {
    let (mut answered, mut refusals, mut unheard) = (0_u32, Vec::new(), 0);
    for Outcome { number, took, ended, response } in outcomes {
        match response {
            Some(response) if response.status == 200 => {
                assert_eq!(vector(response), [f64::from(*number)], "an answer to another's request");
                answered += u32::from(*took <= PATIENCE && *ended <= time);
            }
            Some(response) => {
                response.expect_problem(503, "overloaded");
                refusals.push(*took);
            }
            None => unheard += 1,
        }
    }
    refusals.sort_unstable();
    assert!(refusals.len() > outcomes.len() / 4, "{} of {} are refused: that was no overload", refusals.len(), outcomes.len());
    let late = refusals[refusals.len() * 99 / 100];
    let goodput = f64::from(answered) / time.as_secs_f64();
    let told = format!(
        "busy {busy}, capacity {capacity:.0}/s, goodput {goodput:.0}/s, {} refused, 99 of 100 within {late:?}, {unheard} unheard of {}",
        refusals.len(),
        outcomes.len()
    );
    eprintln!("{told}");
    let is_well = goodput >= USED[busy] * capacity && late < PROMPT[busy] && unheard * 100 <= outcomes.len();
    (!is_well).then_some(told)
}

fn is_used_to_capacity(language: Language, does: &str) {
    let setup = Setup::inline(language, "model", &script(language, does)).flags(&["--max-queue-wait", QUEUE_WAIT]);
    let (file, service) = (setup.file("walk.csv", "1,2,3\n"), setup.start());
    let (server, workers) = (service.pid(), service.workers());
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let busy = machine_is_busy();
    let mut troubles = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..ROUNDS {
        let before = capacity(&file, &service, Duration::from_secs(2));
        memory.push(rss(server));
        let outcomes = open_loop(&file, &service, 3.0 * before, round_time());
        memory.push(rss(server));
        let after = capacity(&file, &service, Duration::from_secs(2));
        troubles.extend(trouble(&outcomes, before.min(after), round_time(), busy));
        if troubles.len() < memory.len() / 2 {
            break;
        }
    }
    assert!(troubles.len() < memory.len() / 2, "{troubles:#?}");
    assert!(memory.iter().max() < memory.first().map(|first| first + MORE_MEMORY).as_ref(), "{memory:?} KiB");
    assert_eq!(service.workers(), workers, "none is lost by it");
    let metrics = service.get("/metrics").text().to_owned();
    let refused = metrics.lines().find(|line| line.starts_with("dunnage_outputs_refused_total{cause=\"queue_wait\""));
    assert!(refused.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    assert!(metrics.contains("dunnage_output_queue_seconds_bucket"), "{metrics}");
    let told = service.log().iter().filter(|line| line.contains("than the workers can answer")).count();
    assert!((1..100).contains(&told), "the overload is told, but not every refusal: {told} times");
}

fn a_script_that_waits_is_used_to_capacity_under_three_times_its_load(language: Language) {
    is_used_to_capacity(language, "waits");
}

fn a_script_that_computes_is_used_to_capacity_under_three_times_its_load(language: Language) {
    is_used_to_capacity(language, "computes");
}

/// As many as this process, and the server, may have connections.
fn at_once() -> u32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    u32::try_from(limit.saturating_sub(500).min(10_000)).unwrap()
}

fn ten_thousand_requests_at_once_are_each_answered_or_refused(language: Language) {
    let setup = Setup::inline(language, "model", &script(language, "waits"));
    let (file, service) = (setup.file("walk.csv", "1,2,3\n"), setup.start());
    let memory = rss(service.pid());
    let requests: Vec<_> = (1..=at_once()).map(|number| (number, ask(&file, number))).collect();
    let begun: Vec<_> = requests.iter().map(|(_, request)| request.begin(service.address()).unwrap()).collect();
    let (mut answered, mut refused) = (0, 0);
    for ((number, request), stream) in requests.iter().zip(begun) {
        let response = request.answer_over(stream).unwrap_or_else(|error| panic!("request {number}: {error}"));
        match response.status {
            200 => {
                assert_eq!(vector(&response), [f64::from(*number)], "an answer to another's request");
                answered += 1;
            }
            _ => {
                let code = response.json()["code"].as_str().unwrap().to_owned();
                assert!(["overloaded", "queue_full"].contains(&code.as_str()), "{response}");
                response.expect_problem(503, &code);
                refused += 1;
            }
        }
    }
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    assert_eq!(service.output(&setup.body(json!({"number": 7}))), [7.0]);
    // Each connection has its buffers, which are given back with it, though not all of them to the system.
    let more = rss(service.pid()).saturating_sub(memory);
    assert!(more < u64::from(at_once()) * 32, "{more} KiB more");
}

/// A script that can be kept busy, and counts its calls.
fn held(language: Language, flags: &[&str]) -> Setup {
    Setup::new(language, "behaviours").flags(flags)
}

fn is_busy(service: &Service) {
    let sleeps = || service.log().iter().any(|line| line.contains("sleeping")).then_some(());
    eventually("the worker is busy", Duration::from_secs(5), sleeps);
}

fn queued(service: &Service, count: usize) {
    let metric = format!("dunnage_outputs_queued{{service=\"behaviours\"}} {count}\n");
    eventually(&metric, Duration::from_secs(5), || service.get("/metrics").text().contains(&metric).then_some(()));
}

fn requests_whose_clients_hang_up_leave_their_places_at_once(language: Language) {
    let setup = held(language, &["--max-queue", "20", "--max-queue-wait", "0s"]);
    let service = setup.start();
    let ask = |case: &str, number: u32| Request::new("POST", "/output").json(&setup.body(json!({"case": case, "number": number})));
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| service.send(&ask("long", 1)));
        is_busy(&service);
        for _ in 0..3 {
            let gone: Vec<_> = (0..20).map(|_| ask("nothing", 2).begin(service.address()).unwrap()).collect();
            queued(&service, 20);
            service.send(&ask("nothing", 3)).expect_problem(503, "queue_full");
            drop(gone);
            queued(&service, 0);
        }
        let waiting: Vec<_> = (10..30)
            .map(|number| {
                scope.spawn({
                    let (service, ask) = (&service, &ask);
                    move || (number, service.send(&ask("nothing", number)))
                })
            })
            .collect();
        queued(&service, 20);
        assert!(!busy.is_finished(), "all that was while the worker was at its first call");
        assert_eq!(vector(&busy.join().unwrap()), [1.0]);
        for (number, answered) in waiting.into_iter().map(|waiting| waiting.join().unwrap()) {
            assert_eq!(vector(&answered), [f64::from(number)]);
        }
    });
    // The script counts its calls: the long one, those that were waited for, and this one.
    assert_eq!(service.output(&setup.body(json!({"case": "calls"}))), [22.0]);
}

fn what_cannot_be_answered_in_time_is_refused_at_once(language: Language) {
    let setup = held(language, &["--timeout", "2s"]);
    let service = setup.start();
    let ask = |number: u32| Request::new("POST", "/output").json(&setup.body(json!({"case": "sleep", "number": number})));
    // What a call takes is known only after one.
    assert_eq!(vector(&service.send(&ask(1))), [1.0]);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (10..30)
            .map(|number| {
                scope.spawn({
                    let (service, ask) = (&service, &ask);
                    move || {
                        let begin = Instant::now();
                        (number, service.send(&ask(number)), begin.elapsed())
                    }
                })
            })
            .collect();
        let mut answered = 0;
        for (number, response, took) in asking.into_iter().map(|asking| asking.join().unwrap()) {
            if response.status == 200 {
                assert_eq!(vector(&response), [f64::from(number)]);
                answered += 1;
                continue;
            }
            let detail = response.expect_problem(503, "overloaded");
            assert!(detail.contains("--timeout") && took < Duration::from_millis(700), "{detail} after {took:?}");
            let retry_after: u64 = response.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=3).contains(&retry_after), "{retry_after}");
        }
        assert!((1..=4).contains(&answered), "{answered} calls of 0.7 s were answered within 2 s");
    });
}

fn a_refusal_leaves_its_connection_in_step(language: Language) {
    let setup = held(language, &["--max-queue", "1", "--max-queue-wait", "0s"]);
    let service = setup.start();
    let ask = |case: &str| Request::new("POST", "/output").json(&setup.body(json!({"case": case, "number": 1})));
    std::thread::scope(|scope| {
        let _busy = scope.spawn(|| service.send(&ask("long")));
        is_busy(&service);
        let _waiting = ask("nothing").begin(service.address()).unwrap();
        queued(&service, 1);
        for (padding, part) in [(0, 1000), (200, 1), (40_000, 7000), (900_000, 50_000)] {
            let answers = answers_on_one_connection(&service, padding, part);
            let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
            // A connection that has more to come than is worth reading may be closed, but nothing in a body is taken for a request.
            assert!(statuses == ["503", "200"] || (padding > 64 << 10 && statuses == ["503"]), "{padding}: {answers}");
            assert!(!answers.contains("method_not_allowed"), "{answers}");
        }
    });
}

/// What is answered to a request for output whose body holds another request, in parts, and to one after it.
fn answers_on_one_connection(service: &Service, padding: usize, part: usize) -> String {
    let body = format!("PUT /output HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n{}", " ".repeat(padding));
    let head = format!(
        "POST /output HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        service.address(),
        body.len()
    );
    let last = format!("GET /healthz/live HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", service.address());
    let mut stream = TcpStream::connect(service.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in [head.as_bytes(), body.as_bytes(), last.as_bytes()].concat().chunks(part) {
        // The server may have closed it by now.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let mut answers = Vec::new();
    // An error comes after what was answered before.
    let _ = BufReader::new(stream).read_to_end(&mut answers);
    String::from_utf8(answers).unwrap()
}

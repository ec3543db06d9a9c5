//! How values look in the description of the interface, where the types that hold them do not say it themselves.
//!
//! A schema must take everything that the server takes: what is refused for reasons that no schema can tell is answered with 422.

use dunnage_types::{JobKind, JobState};
use utoipa::openapi::schema::{AdditionalProperties, Array, ArrayBuilder, Object, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use crate::submission::Body;

/// The fields of a [`Body`] that only jobs have.
const OF_JOBS: [&str; 3] = ["Key", "Callback", "OutputUri"];

/// The body of `/output`: a [`Body`] without what only jobs have.
pub(crate) enum Question {}

/// The form of `/train` and `/input`: a [`Body`] with the files themselves.
pub(crate) enum JobForm {}

/// The form of `/output`: a [`Question`] with the files themselves.
pub(crate) enum QuestionForm {}

/// The id of a job in a path.
pub(crate) enum JobIdText {}

/// What a client sends in `Idempotency-Key`.
pub(crate) enum IdempotencyKey {}

/// One event of a stream. Before OpenAPI 3.2, what describes a stream describes each event of it.
pub(crate) enum Event {}

/// What a client sends in `Last-Event-ID`.
pub(crate) enum EventId {}

impl PartialSchema for Question {
    fn schema() -> RefOr<Schema> {
        without(body(), &OF_JOBS).into()
    }
}

impl PartialSchema for JobForm {
    fn schema() -> RefOr<Schema> {
        form(body()).into()
    }
}

impl PartialSchema for QuestionForm {
    fn schema() -> RefOr<Schema> {
        form(without(body(), &OF_JOBS)).into()
    }
}

impl PartialSchema for JobIdText {
    fn schema() -> RefOr<Schema> {
        job_id().into()
    }
}

impl PartialSchema for IdempotencyKey {
    fn schema() -> RefOr<Schema> {
        text("^[ -~]+$").max_length(Some(255)).build().into()
    }
}

impl PartialSchema for Event {
    fn schema() -> RefOr<Schema> {
        let data = ObjectBuilder::new().schema_type(Type::String).content_media_type("application/json");
        let event = ObjectBuilder::new()
            .description(Some("An event; `data` is what the event's name says, as JSON"))
            .property("id", text("^[0-9]+:[a-z]+$"))
            .property("event", words(["state", "progress", "log"]))
            .property("data", data);
        ["id", "event", "data"].into_iter().fold(event, ObjectBuilder::required).build().into()
    }
}

impl PartialSchema for EventId {
    fn schema() -> RefOr<Schema> {
        text("^((0|[1-9][0-9]{0,18}):(queued|running|done|error|cancelled))?$").build().into()
    }
}

impl ToSchema for Question {}
impl ToSchema for JobForm {}
impl ToSchema for QuestionForm {}
impl ToSchema for JobIdText {}
impl ToSchema for IdempotencyKey {}
impl ToSchema for Event {}
impl ToSchema for EventId {}

/// The id of a job. It has one spelling.
pub(crate) fn job_id() -> Object {
    text("^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$").format(Some(SchemaFormat::Custom("uuid".to_owned()))).build()
}

/// The addresses of files. What they have in common, at least.
pub(crate) fn addresses() -> Array {
    let address = text("^(s3://[a-z0-9][a-z0-9.\\-]*/|file:///)[^\\x00-\\x1f]+$");
    let example = serde_json::json!(["file:///data/walk.csv"]);
    ArrayBuilder::new().items(address).min_items(Some(1)).examples([example]).build()
}

/// The state of a job.
pub(crate) fn job_state() -> Object {
    words(JobState::ALL.map(JobState::as_str))
}

/// The kind of a job.
pub(crate) fn job_kind() -> Object {
    words([JobKind::Train, JobKind::Input].map(JobKind::as_str))
}

fn words<const N: usize>(words: [&'static str; N]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

fn text(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

fn body() -> Object {
    match Body::schema() {
        RefOr::T(Schema::Object(object)) => object,
        other => unreachable!("a struct's schema is an object, found {}", serde_json::json!(other)),
    }
}

fn without(mut object: Object, names: &[&str]) -> Object {
    names.iter().for_each(|name| drop(object.properties.remove(*name)));
    object
}

/// Forms have texts and files only.
fn form(body: Object) -> Object {
    let mut form = without(body, &["Files", "Params"]);
    let file = ObjectBuilder::new().schema_type(SchemaType::AnyValue).content_media_type("application/octet-stream").build();
    let files = ArrayBuilder::new().items(file).min_items(Some(1)).description(Some("The files, each with a file name")).build();
    let params = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .content_media_type("application/json")
        .description(Some("A JSON object: anything the script should know"))
        .build();
    form.properties.insert("file".to_owned(), files.into());
    form.properties.insert("Params".to_owned(), params.into());
    form.required = vec!["file".to_owned()];
    form.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    form
}

//! The fastest that `POST /output` could be with this web framework: the body is parsed and a constant vector printed, with no files,
//! no worker and no limits. What every layer of the product adds is measured against it.

use actix_web::{App, HttpResponse, HttpServer, web};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "Files")]
    files: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    output_vector: &'a [f64],
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let port = port.ok_or_else(|| std::io::Error::other("the port to listen on must be given"))?;
    let vector: web::Data<Vec<f64>> = web::Data::new((0..128).map(|index| f64::from(index) * 0.123_456_7).collect());
    HttpServer::new(move || App::new().app_data(vector.clone()).route("/output", web::post().to(output)))
        .bind(("127.0.0.1", port))?
        .run()
        .await
}

async fn output(body: web::Json<Body>, vector: web::Data<Vec<f64>>) -> HttpResponse {
    if body.files.is_empty() {
        return HttpResponse::UnprocessableEntity().finish();
    }
    HttpResponse::Ok().json(Answer { output_vector: &vector })
}

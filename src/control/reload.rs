//! `POST /api/v1/pollux/{reload,diff,drain,undrain}`.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::server::answer;
use crate::config::{Problem, Report, Style};
use crate::reload::{Diff, DrainError, Outcome, Override, Preview, Refusal, Reloader};

/// What is to be read.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileRequest {
    /// Another file than the engine's own, as an absolute path.
    pub config: Option<PathBuf>,
    /// How problems are rendered, for a terminal: with colour or without; plain where it is left out.
    pub graphical: Option<bool>,
}

impl FileRequest {
    fn style(&self) -> Style {
        self.graphical.map_or(Style::Plain, |color| Style::Graphical { color, width: 100 })
    }
}

/// Which endpoint is meant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointRequest {
    /// The service's name.
    pub service: String,
    /// The endpoint's address, with its port where it has one.
    pub endpoint: String,
}

pub(super) async fn reload(
    State(reloader): State<Arc<Reloader>>,
    request: Result<Json<FileRequest>, JsonRejection>,
) -> Response {
    let (request, style) = match checked(request) {
        Ok(request) => request,
        Err((status, line)) => return answer(status, &line),
    };
    let done = blocking(move || reloader.reload(request.config.as_deref())).await;
    match done {
        Some(Ok(Outcome { generation, changes, runtime, warnings })) => Json(json!({
            "generation": generation,
            "changes": changes,
            "runtime": runtime,
            "warnings": warnings.iter().map(problem).collect::<Vec<_>>(),
            "rendered": style.render(&warnings),
        }))
        .into_response(),
        Some(Err(refusal)) => refused(&refusal, &style),
        None => broken(),
    }
}

pub(super) async fn diff(
    State(reloader): State<Arc<Reloader>>,
    request: Result<Json<FileRequest>, JsonRejection>,
) -> Response {
    let (request, style) = match checked(request) {
        Ok(request) => request,
        Err((status, line)) => return answer(status, &line),
    };
    match blocking(move || reloader.preview(request.config.as_deref())).await {
        Some(Ok(Preview { diff: Diff { changes, restart }, runtime, warnings })) => Json(json!({
            "changes": changes,
            "restart": restart,
            "runtime": runtime,
            "warnings": warnings.iter().map(problem).collect::<Vec<_>>(),
            "rendered": style.render(&warnings),
        }))
        .into_response(),
        Some(Err(report)) => invalid("the configuration is not valid", &report, &style),
        None => broken(),
    }
}

pub(super) async fn drain(
    State(reloader): State<Arc<Reloader>>,
    request: Result<Json<EndpointRequest>, JsonRejection>,
) -> Response {
    change(request, move |r| reloader.drain(&r.service, &r.endpoint)).await
}

pub(super) async fn undrain(
    State(reloader): State<Arc<Reloader>>,
    request: Result<Json<EndpointRequest>, JsonRejection>,
) -> Response {
    change(request, move |r| reloader.undrain(&r.service, &r.endpoint)).await
}

async fn change(
    request: Result<Json<EndpointRequest>, JsonRejection>,
    work: impl FnOnce(&EndpointRequest) -> Result<Override, DrainError> + Send + 'static,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(error) => return answer(error.status(), &error.body_text()),
    };
    match blocking(move || work(&request)).await {
        Some(Ok(done)) => Json(done).into_response(),
        Some(Err(error)) => {
            let status = match &error {
                DrainError::NoService(..) | DrainError::NoEndpoint { .. } => StatusCode::NOT_FOUND,
                _ => StatusCode::CONFLICT,
            };
            (status, Json(json!({ "error": error.to_string() }))).into_response()
        }
        None => broken(),
    }
}

fn checked(
    request: Result<Json<FileRequest>, JsonRejection>,
) -> Result<(FileRequest, Style), (StatusCode, String)> {
    let Json(request) = request.map_err(|error| (error.status(), error.body_text()))?;
    match &request.config {
        Some(path) if path.is_relative() => {
            Err((StatusCode::BAD_REQUEST, format!("config is {}, which is no absolute path", path.display())))
        }
        _ => {
            let style = request.style();
            Ok((request, style))
        }
    }
}

/// Files are read and tables compiled where it may take its time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn broken() -> Response {
    answer(StatusCode::INTERNAL_SERVER_ERROR, "an error of the engine's own; its log says more")
}

fn refused(refusal: &Refusal, style: &Style) -> Response {
    let line = refusal.to_string();
    match refusal {
        Refusal::Invalid(report) => invalid(&line, report, style),
        Refusal::Restart(restart) => {
            (StatusCode::CONFLICT, Json(json!({ "error": line, "restart": restart }))).into_response()
        }
        Refusal::Apply(_) => (StatusCode::CONFLICT, Json(json!({ "error": line }))).into_response(),
    }
}

fn invalid(line: &str, report: &Report, style: &Style) -> Response {
    let body = json!({
        "error": line,
        "problems": report.problems().iter().map(problem).collect::<Vec<_>>(),
        "rendered": report.render(style),
    });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

fn problem(problem: &Problem) -> Value {
    let place = problem.position();
    json!({
        "severity": problem.severity().name(),
        "file": problem.file(),
        "line": place.map(|p| p.line),
        "column": place.map(|p| p.column),
        "message": problem.message(),
        "help": problem.cure(),
    })
}

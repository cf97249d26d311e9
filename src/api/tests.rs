//! The fields in `docs/cli.md` are those of the description.

use std::fmt::Write as _;

use serde_json::Value;

use super::OPENAPI;

const BEGIN: &str = "<!-- fields: begin -->\n";
const END: &str = "<!-- fields: end -->\n";

fn fields(of: &Value, prefix: &str, page: &mut String) {
    for (name, field) in of["properties"].as_object().into_iter().flatten() {
        let inner = match &field["oneOf"] {
            Value::Array(either) => &either[1],
            _ if field["items"]["properties"].is_object() => &field["items"],
            _ => field,
        };
        let many = if field["items"].is_object() { "[]" } else { "" };
        let kind = match &field["type"] {
            Value::Array(either) => format!("{} or null", either[0].as_str().unwrap()),
            Value::String(kind) => kind.clone(),
            _ => "object or null".to_owned(),
        };
        let mut says = field["description"].as_str().unwrap().replace('|', "\\|");
        if let Some(values) = field["enum"].as_array() {
            let values: Vec<_> = values.iter().map(|v| format!("`{}`", v.as_str().unwrap())).collect();
            let _ = write!(says, " One of {}.", values.join(", "));
        }
        if let Some(item) = field["items"]["$ref"].as_str() {
            let _ = write!(says, " Each a {}.", item.rsplit('/').next().unwrap());
        }
        let _ = writeln!(page, "| `{prefix}{name}` | {kind} | {says} |");
        fields(inner, &format!("{prefix}{name}{many}."), page);
    }
}

fn markdown() -> String {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut page = String::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let says = schema["description"].as_str().unwrap();
        let _ = write!(page, "\n### {name}\n\n{says}\n\n| field | type | meaning |\n|---|---|---|\n");
        fields(schema, "", &mut page);
    }
    page
}

#[test]
fn the_page_has_every_field() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}{}\n{END}{after}", markdown());
    if std::env::var_os("POLLUX_UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), wanted, "POLLUX_UPDATE_DOCS=1 writes it");
}

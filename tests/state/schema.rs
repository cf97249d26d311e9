//! As much of JSON Schema as the API's description uses; a keyword that it does not know is a failure.

use serde_json::Value;

/// Everything in which a value is not as the schema of this name says.
pub fn problems(document: &Value, name: &str, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, &document["components"]["schemas"][name], value, name, &mut found);
    found
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Some(keywords) = schema.as_object() else {
        return found.push(format!("{at}: no schema"));
    };
    for (keyword, says) in keywords {
        let fits =
            match keyword.as_str() {
                "description" => true,
                "$ref" => {
                    let name = says.as_str().unwrap().rsplit('/').next().unwrap();
                    check(document, &document["components"]["schemas"][name], value, at, found);
                    true
                }
                "type" => match says {
                    Value::Array(types) => types.iter().any(|kind| is(value, kind.as_str().unwrap())),
                    kind => is(value, kind.as_str().unwrap()),
                },
                "enum" => says.as_array().unwrap().contains(value),
                "oneOf" => {
                    let fitting = says.as_array().unwrap().iter().filter(|one| {
                        let mut problems = Vec::new();
                        check(document, one, value, at, &mut problems);
                        problems.is_empty()
                    });
                    fitting.count() == 1
                }
                "required" => says.as_array().unwrap().iter().all(|key| {
                    value.as_object().is_none_or(|value| value.contains_key(key.as_str().unwrap()))
                }),
                "properties" => {
                    for (key, schema) in says.as_object().unwrap() {
                        if let Some(value) = value.get(key) {
                            check(document, schema, value, &format!("{at}.{key}"), found);
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    for (key, value) in value.as_object().into_iter().flatten() {
                        let known = schema["properties"].get(key).is_some();
                        if !known && says.is_object() {
                            check(document, says, value, &format!("{at}.{key}"), found);
                        } else if !known {
                            found.push(format!("{at}.{key} is not described"));
                        }
                    }
                    true
                }
                "items" => {
                    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                        check(document, says, item, &format!("{at}[{n}]"), found);
                    }
                    true
                }
                "minItems" => value.as_array().is_none_or(|v| v.len() as u64 >= says.as_u64().unwrap()),
                "maxItems" => value.as_array().is_none_or(|v| v.len() as u64 <= says.as_u64().unwrap()),
                _ => panic!("{at}: keyword {keyword}"),
            };
        if !fits {
            found.push(format!("{at} = {value}, which is not {keyword} {says}"));
        }
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("type {kind}"),
    }
}

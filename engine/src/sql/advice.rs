//! What to write instead: of words that other databases know, and of names that are almost right.

use arrow::datatypes::DataType;
use headwater_connectors::options::nearest;
use headwater_connectors::sql_name;

/// Words that statements of other databases begin with, and what does it here.
const STATEMENTS: &[(&[&str], &str)] = &[
    (&["TRUNCATE"], "write DELETE FROM t, without WHERE"),
    (
        &["MERGE", "UPSERT", "REPLACE"],
        "write UPDATE or DELETE, then INSERT; of rows that replace each other by a key, the latest is found by max()",
    ),
    (&["USE", "ATTACH", "DETACH"], "there is one database, without schemas; names have one part"),
    (
        &["BEGIN", "START", "COMMIT", "ROLLBACK", "END", "SAVEPOINT"],
        "there are no transactions over several statements: each statement is one change, which is seen whole or not at all",
    ),
    (
        &["COPY", "EXPORT", "UNLOAD"],
        "write CREATE SINK s WITH (connector = 'filesystem', path = '..', format = 'csv') AS SELECT ..; to read a file, \
         SELECT .. FROM 'some.csv'",
    ),
    (
        &["LOAD", "IMPORT", "INSTALL"],
        "there is nothing to install; to read a file, SELECT .. FROM 'some.csv', or CREATE TABLE .. WITH (connector = \
         'filesystem', path = '..')",
    ),
    (&["ALTER"], "write CREATE OR REPLACE, once nothing reads it any more; DROP .. CASCADE takes with it what does"),
    (&["REFRESH"], "a materialized view is always up to date: read it"),
    (&["SUMMARIZE"], "write DESCRIBE t for its columns, and SELECT min(c), max(c), count(c) FROM t"),
    (&["PRAGMA", "RESET"], "settings are shown by SHOW ALL and changed by SET name = value"),
    (
        &["VACUUM", "ANALYZE", "ANALYSE", "OPTIMIZE", "CACHE", "UNCACHE", "CLUSTER"],
        "there is nothing to tend: leave it out",
    ),
    (&["GRANT", "REVOKE"], "there are no users or rights: who has the process has all of it"),
    (
        &["CALL", "EXECUTE", "PREPARE", "DO", "DEALLOCATE"],
        "there are no procedures or prepared statements: write the statement itself",
    ),
    (&["LIST"], "write SHOW TABLES, SHOW VIEWS or SHOW SINKS"),
    (&["TABLE"], "write SELECT * FROM t"),
    (&["STOP", "KILL", "CANCEL"], "write DROP SINK s to end a sink, DROP VIEW v to end a view"),
    (&["DECLARE", "FETCH", "LISTEN", "NOTIFY"], "changes are followed by CREATE SINK, or by a subscription in Rust"),
];

/// What does here what a statement that begins with `word` (in upper case) does elsewhere.
pub(super) fn statement(word: &str) -> Option<&'static str> {
    STATEMENTS.iter().find(|(words, _)| words.contains(&word)).map(|(_, advice)| *advice)
}

/// What to write instead of `SHOW word`.
pub(super) fn show(word: &str) -> Option<&'static str> {
    Some(match word {
        "DATABASES" | "SCHEMAS" | "CATALOGS" | "DATABASE" | "SCHEMA" | "NAMESPACES" => {
            "there is one database, without schemas; SHOW TABLES, SHOW VIEWS and SHOW SINKS say what is in it"
        }
        "INDEX" | "INDEXES" | "KEYS" | "CONSTRAINTS" => {
            "there are no indexes or keys to declare; EXPLAIN shows what is arranged"
        }
        "PARTITIONS" => "there are no partitions; SHOW TABLES says where late rows came from",
        "SOURCES" | "STREAMS" | "CONNECTORS" => "write SHOW TABLES: a source is a table",
        "JOBS" | "QUERIES" | "PROCESSLIST" | "SUBSCRIPTIONS" => "write SHOW SINKS and SHOW VIEWS: they are what runs",
        "VARIABLES" | "SETTINGS" | "CONFIG" | "PARAMETERS" => "write SHOW ALL",
        "TYPES" => {
            "types are BOOLEAN, INT, BIGINT, DOUBLE, DECIMAL(p, s), VARCHAR, BYTEA, DATE, TIME, TIMESTAMP and others"
        }
        "USERS" | "ROLES" | "GRANTS" => "there are no users or rights",
        _ => return None,
    })
}

/// What to write instead of `CREATE word`.
pub(super) fn create(word: &str) -> Option<&'static str> {
    Some(match word {
        "DATABASE" | "SCHEMA" | "CATALOG" => "there is one database, without schemas: create tables in it",
        "INDEX" | "UNIQUE" => "there are no indexes to make: what queries need is arranged by itself, and shared",
        "SOURCE" | "STREAM" | "STREAMING" => "write CREATE TABLE t (..) WITH (connector = '..')",
        "FUNCTION" | "AGGREGATE" | "PROCEDURE" => {
            "functions of your own are registered in Rust, with Session::register_udf"
        }
        "TEMP" | "TEMPORARY" | "LOCAL" | "GLOBAL" | "UNLOGGED" => {
            "write CREATE VIEW or CREATE TABLE: all state is in memory, and goes with the process"
        }
        "TYPE" | "DOMAIN" | "SEQUENCE" | "TRIGGER" | "ROLE" | "USER" | "EXTENSION" => "there is no such thing here",
        "DYNAMIC" | "LIVE" => "write CREATE MATERIALIZED VIEW v AS SELECT ..",
        _ => return None,
    })
}

/// What of the text could not be read, in words of ours, if `message` is the parser's about something that is known
/// elsewhere; `next` is the word where it stopped.
pub(super) fn syntax(message: &str, next: Option<&str>) -> Option<&'static str> {
    let next = next.unwrap_or_default();
    if next == "SYSTEM_TIME" || message.contains("SYSTEM_TIME") {
        return Some(SYSTEM_TIME);
    }
    if message.contains("MATCH_CONDITION") {
        return Some(ASOF);
    }
    if message.contains("No infix parser for token") {
        return Some(match next {
            "DIV" => "there is no operator DIV: between integers / is whole, as in a / b",
            "MOD" => "there is no operator MOD: write a % b",
            "GLOB" => "there is no operator GLOB: write a LIKE 'b%', or a ~ '^b'",
            _ => "this is no operator",
        });
    }
    None
}

/// Why versions of tables can't be joined, and what can.
pub(super) const SYSTEM_TIME: &str = "FOR SYSTEM_TIME AS OF is not supported yet: join on the key, which follows the row as it \
                                      changes; or keep the times in columns and join with t.ts >= u.valid_from AND t.ts < u.valid_to";

const ASOF: &str = "ASOF JOIN is not supported yet: join with t.ts >= u.valid_from AND t.ts < u.valid_to, or take the latest by \
                    max(u.ts) for each row";

/// What to write instead of a join that the planner refuses by its name in the syntax tree.
pub(crate) fn join(operator: &str) -> Option<String> {
    match operator {
        "AsOf" => Some(ASOF.to_owned()),
        "CrossApply" | "OuterApply" => Some("APPLY: write CROSS JOIN LATERAL, or a subquery".to_owned()),
        _ => None,
    }
}

/// Functions of Spark, Postgres, DuckDB, Snowflake, Flink, MySQL, BigQuery and ClickHouse, and what does it here.
const FUNCTIONS: &[(&[&str], &str)] = &[
    (&["year"], "extract(year FROM ts)"),
    (&["quarter"], "extract(quarter FROM ts)"),
    (&["month"], "extract(month FROM ts)"),
    (&["week", "weekofyear", "isoweek", "weekiso"], "extract(week FROM ts)"),
    (&["day", "dayofmonth", "day_of_month"], "extract(day FROM ts)"),
    (&["dayofweek", "weekday", "dow", "day_of_week", "isodow"], "extract(dow FROM ts)"),
    (&["dayofyear", "doy", "day_of_year"], "extract(doy FROM ts)"),
    (&["hour"], "extract(hour FROM ts)"),
    (&["minute"], "extract(minute FROM ts)"),
    (&["second"], "extract(second FROM ts)"),
    (&["millisecond"], "extract(millisecond FROM ts)"),
    (&["microsecond"], "extract(microsecond FROM ts)"),
    (&["epoch", "unix_timestamp", "epoch_s"], "extract(epoch FROM ts)"),
    (&["epoch_ms", "unix_millis", "to_unix_timestamp_ms"], "CAST(extract(epoch FROM ts) * 1000 AS BIGINT)"),
    (&["timestamp_seconds"], "to_timestamp_seconds(n)"),
    (&["timestamp_millis"], "to_timestamp_millis(n)"),
    (&["timestamp_micros"], "to_timestamp_micros(n)"),
    (&["to_timestamp_ltz"], "to_timestamp_millis(n), or to_timestamp_seconds(n)"),
    (
        &["time_bucket", "time_slice", "toStartOfInterval", "tostartofinterval"],
        "date_bin(INTERVAL '5 minutes', ts), or window(ts, '5 minutes')",
    ),
    (
        &["tumble", "tumble_start", "tumble_end", "tumble_rowtime"],
        "window(ts, '5 minutes'), whose parts are w['start'] and w['end']",
    ),
    (
        &["hop", "hop_start", "hop_end", "hop_rowtime", "slide"],
        "window(ts, '5 minutes', '1 minute'), whose parts are w['start'] and w['end']",
    ),
    (
        &["session", "session_start", "session_end", "session_window"],
        "window(ts, '5 minutes'): session windows are not supported",
    ),
    (&["window_start"], "window(ts, '5 minutes')['start']"),
    (&["window_end"], "window(ts, '5 minutes')['end']"),
    (&["date_add", "dateadd", "timestampadd", "timestamp_add", "adddate"], "ts + INTERVAL '1 day'"),
    (&["date_sub", "datesub", "timestamp_sub", "subdate"], "ts - INTERVAL '1 day'"),
    (&["add_months"], "ts + INTERVAL '1 month'"),
    (
        &["datediff", "date_diff", "timestampdiff", "timestamp_diff", "age"],
        "ts - other, or (extract(epoch FROM ts) - extract(epoch FROM other)) / 86400",
    ),
    (&["last_day"], "date_trunc('month', ts) + INTERVAL '1 month' - INTERVAL '1 day'"),
    (&["strftime", "format_timestamp", "format_date"], "to_char(ts, '%Y-%m-%d')"),
    (&["strptime", "parse_timestamp", "str_to_date", "parse_datetime"], "to_timestamp(s, '%Y-%m-%d')"),
    (&["date_part_year"], "extract(year FROM ts)"),
    (
        &["curdate", "getdate", "sysdate", "localtime", "localtimestamp", "proctime", "current_watermark"],
        "an event-time column: what the clock says when a row is read is no function of the data",
    ),
    (&["variance", "var_samp", "variance_samp"], "var(x)"),
    (&["variance_pop", "varpop"], "var_pop(x)"),
    (&["stdev", "std", "stddev_samp", "stdev_samp"], "stddev(x)"),
    (&["stdevp", "stdev_pop"], "stddev_pop(x)"),
    (&["mean", "average"], "avg(x)"),
    (&["count_if", "countif"], "count(*) FILTER (WHERE ..)"),
    (&["sum_if", "sumif"], "sum(x) FILTER (WHERE ..)"),
    (&["avg_if", "avgif"], "avg(x) FILTER (WHERE ..)"),
    (&["approx_count_distinct", "uniq", "uniqexact", "approx_distinct", "count_distinct"], "count(DISTINCT x)"),
    (&["any", "some", "bool_any", "boolor_agg", "logical_or"], "bool_or(x)"),
    (&["every", "booland_agg", "logical_and"], "bool_and(x)"),
    (&["first", "first_value", "any_value", "arbitrary"], "min(x)"),
    (&["last", "last_value"], "max(x)"),
    (
        &["max_by", "arg_max", "argmax", "min_by", "arg_min", "argmin"],
        "a join with the row that has the max() or min(); or ORDER BY .. LIMIT 1",
    ),
    (
        &["collect_list", "collect_set", "listagg", "group_concat", "grouparray", "list", "list_agg"],
        "rows: aggregates that gather values are not supported",
    ),
    (
        &["percentile", "percentile_approx", "percentile_cont", "percentile_disc", "quantile", "quantile_cont"],
        "min(), max() or avg(): quantiles are not supported",
    ),
    (&["iff", "if", "iif"], "CASE WHEN a THEN b ELSE c END"),
    (&["decode_case"], "CASE a WHEN .. THEN .. END"),
    (&["isnull"], "x IS NULL, or coalesce(x, y)"),
    (&["isnotnull", "notnull"], "x IS NOT NULL"),
    (&["zeroifnull"], "coalesce(x, 0)"),
    (&["nullifzero"], "nullif(x, 0)"),
    (&["equal_null"], "a IS NOT DISTINCT FROM b"),
    (&["safe_divide", "try_divide", "div0"], "a / nullif(b, 0)"),
    (&["len", "strlen"], "length(s)"),
    (&["ucase", "toupper"], "upper(s)"),
    (&["lcase", "tolower"], "lower(s)"),
    (&["mid", "substring_of"], "substr(s, 1, 3)"),
    (&["charindex", "locate", "strstr", "indexof"], "strpos(s, part)"),
    (&["startswith", "starts_with_ignore_case"], "starts_with(s, 'a')"),
    (&["endswith"], "ends_with(s, 'a')"),
    (&["split", "string_split", "str_split"], "string_to_array(s, ','), or split_part(s, ',', 1)"),
    (
        &["regexp", "rlike", "regexp_matches", "regexp_contains", "regexp_full_match"],
        "regexp_like(s, 'pattern'), or s ~ 'pattern'",
    ),
    (&["regexp_extract", "regexp_substr"], "regexp_match(s, '(pattern)')[1]"),
    (&["format", "printf", "format_string"], "concat(a, b), or a || b"),
    (&["strip"], "trim(s)"),
    (&["char"], "chr(n)"),
    (&["sha1", "sha", "sha2"], "sha256(s)"),
    (&["hash", "xxhash64", "murmur_hash"], "md5(s)"),
    (&["base64", "to_base64"], "encode(x, 'base64')"),
    (&["unbase64", "from_base64"], "decode(s, 'base64')"),
    (&["hex"], "encode(x, 'hex'), or to_hex(n)"),
    (&["unhex"], "decode(s, 'hex')"),
    (&["sign"], "signum(x)"),
    (&["ceiling"], "ceil(x)"),
    (&["mod"], "a % b"),
    (&["div"], "a / b"),
    (&["truncate"], "trunc(x, 2)"),
    (&["bround"], "round(x, 2)"),
    (&["try_to_number", "to_number", "to_decimal", "try_to_decimal"], "CAST(s AS DECIMAL(10, 2)), or TRY_CAST"),
    (&["to_double", "tofloat64"], "CAST(s AS DOUBLE), or TRY_CAST"),
    (&["to_varchar", "str", "tostring"], "CAST(x AS VARCHAR)"),
    (&["toint64", "int", "bigint", "to_bigint"], "CAST(x AS BIGINT), or TRY_CAST"),
    (&["typeof", "pg_typeof"], "arrow_typeof(x)"),
    (&["explode", "lateral_flatten", "posexplode"], "unnest(list)"),
    (&["array", "list_value", "array_construct"], "make_array(a, b), or [a, b]"),
    (&["size", "array_size"], "cardinality(list)"),
    (&["list_contains_all"], "array_has_all(a, b)"),
    (&["struct_pack", "object_construct", "row_constructor"], "named_struct('a', x, 'b', y)"),
    (&["struct_extract"], "s['field']"),
    (
        &[
            "get_json_object",
            "json_value",
            "json_extract",
            "json_extract_string",
            "json_extract_path_text",
            "parse_json",
            "from_json",
            "json_query",
        ],
        "a STRUCT column: declare it in CREATE TABLE, and write s['field']",
    ),
    (&["to_json", "json_object", "to_jsonb"], "a sink with format = 'json': it writes structs as objects"),
    (
        &["gen_random_uuid", "uuid_string", "newid"],
        "a column that has an identifier: a value that is new each time could never be retracted",
    ),
    (
        &["row_number", "rank", "dense_rank", "lag", "lead", "ntile"],
        "ORDER BY .. LIMIT as a top-N, or GROUP BY with min() and max()",
    ),
];

/// What to say of a function that there is not; `near` is what DataFusion found, in single quotes or without.
pub(crate) fn function(name: &str, near: Option<&str>) -> String {
    let lower = name.to_lowercase();
    if let Some((_, instead)) = FUNCTIONS.iter().find(|(names, _)| names.contains(&lower.as_str())) {
        return format!("there is no function '{name}'; write {instead}");
    }
    // What is named only because it is the least far away is no help.
    match near.and_then(|near| nearest(&lower, [near])) {
        Some(near) => format!("there is no function '{name}'; did you mean '{near}'?"),
        None => format!("there is no function '{name}'; SHOW FUNCTIONS lists those that there are"),
    }
}

/// What to write instead of a function that stands for a table.
pub(super) fn table_function(name: &str) -> &'static str {
    match name {
        "window" | "tumble" | "hop" | "cumulate" | "session" => {
            "; group by window(ts, '5 minutes' [, '1 minute']) instead"
        }
        "read_csv" | "read_csv_auto" | "read_json" | "read_json_auto" | "read_ndjson" | "read_parquet"
        | "parquet_scan" | "csv_scan" | "read_files" | "infer_schema" => {
            "; write FROM 'some.csv', or CREATE TABLE .. WITH (connector = 'filesystem', path = '..')"
        }
        "generate_series" | "range" | "numbers" | "sequence" => {
            "; write FROM (VALUES (1), (2)) AS t (n), or unnest(range(1, 10))"
        }
        "unnest" | "flatten" | "explode" => "; write SELECT unnest(list) FROM t",
        _ => "",
    }
}

/// What to say of a table or view that there is not, beside those that there are.
pub(super) fn relation(name: &str, known: &[&str]) -> String {
    match known {
        [] => format!("there is no table or view '{name}'; there are none yet"),
        known => {
            let known_names = known.join(", ");
            match meant(name, known) {
                Some(hint) => format!("there is no table or view '{name}'; {hint} (there are {known_names})"),
                None => format!("there is no table or view '{name}'; there are {known_names}"),
            }
        }
    }
}

/// What to say of a column that there is not. A name is `relation.column`, or a column alone.
pub(crate) fn column(name: &str, known: &[String]) -> String {
    if known.is_empty() {
        return format!("there is no column '{name}' here");
    }
    let last = |name: &str| name.rsplit_once('.').map_or_else(|| name.to_owned(), |(_, column)| column.to_owned());
    let columns: Vec<String> = known.iter().map(|name| last(name)).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let known = known.join(", ");
    match meant(&last(name), &columns) {
        Some(hint) => format!("there is no column '{name}'; {hint} (there are {known})"),
        None => format!("there is no column '{name}'; there are {known}"),
    }
}

/// The name that was meant, as it must be written.
fn meant(name: &str, known: &[&str]) -> Option<String> {
    let written = |name: &str| match name.chars().any(|c| c.is_uppercase() || !(c.is_alphanumeric() || c == '_')) {
        true => format!("\"{name}\""),
        false => name.to_owned(),
    };
    if let Some(same) = known.iter().find(|known| known.to_lowercase() == name.to_lowercase()) {
        return Some(format!("write {}: names are lower case unless they are quoted", written(same)));
    }
    // Of what is so short, anything is near.
    let near = if name.chars().count() < 3 { None } else { nearest(name, known.iter().copied()) };
    near.map(|near| format!("did you mean {}?", written(near)))
}

/// Arrow's names of types in a message of DataFusion as those of SQL.
pub(crate) fn sql_types(message: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut out, mut rest) = (String::with_capacity(message.len()), message);
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let end = if end == 0 { first.len_utf8() } else { end };
        let (word, tail) = rest.split_at(end);
        // `Int64(1)` is a value, `Timestamp(µs)` and `Decimal128(10, 2)` are types.
        let arguments = match tail.starts_with('(') {
            true => tail.find(')').map_or(0, |at| at + 1),
            false => 0,
        };
        let whole = &rest[..end + arguments];
        match whole.parse::<DataType>() {
            Ok(of) if first.is_uppercase() => {
                out.push_str(&sql_name(&of));
                rest = &rest[end + arguments..];
            }
            _ => {
                out.push_str(word);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_function_is_refused_that_there_is() {
        let known = crate::sql::Planner::new().functions();
        let refused = FUNCTIONS.iter().flat_map(|(names, _)| *names);
        let there: Vec<_> = refused.filter(|name| known.iter().any(|known| known == *name)).collect();
        assert!(there.is_empty(), "{there:?}");
    }

    #[test]
    fn what_is_far_away_is_not_offered() {
        assert_eq!(function("year", Some("mean")), "there is no function 'year'; write extract(year FROM ts)");
        assert_eq!(function("uper", Some("upper")), "there is no function 'uper'; did you mean 'upper'?");
        assert!(function("frobnicate", Some("abs")).ends_with("SHOW FUNCTIONS lists those that there are"));
    }

    #[test]
    fn names_are_offered_as_they_must_be_written() {
        let known = ["c.Id".to_owned(), "c.UserName".to_owned()];
        assert_eq!(
            column("c.username", &known),
            "there is no column 'c.username'; write \"UserName\": names are lower case unless they are quoted (there are \
             c.Id, c.UserName)"
        );
        assert_eq!(
            relation("ordrs", &["orders"]),
            "there is no table or view 'ordrs'; did you mean orders? (there are orders)"
        );
        assert_eq!(relation("x", &[]), "there is no table or view 'x'; there are none yet");
    }

    #[test]
    fn types_are_named_as_in_sql() {
        for (text, wanted) in [
            ("Utf8 + Int64 to valid types", "VARCHAR + BIGINT to valid types"),
            ("coerce Timestamp(µs) and Decimal128(10, 2).", "coerce TIMESTAMP and DECIMAL(10, 2)."),
            ("t.k + Int64(1), Boolean µ", "t.k + Int64(1), BOOLEAN µ"),
        ] {
            assert_eq!(sql_types(text), wanted);
        }
    }
}

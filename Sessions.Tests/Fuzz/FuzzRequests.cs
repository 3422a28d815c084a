using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using CsCheck;

namespace Sessions.Tests.Fuzz;

/// <summary>Requests to everything that the OpenAPI document describes, a new route among them as soon as it is there.</summary>
internal static partial class FuzzRequests
{
    private static readonly string[] Others = ["/health", "/alive", "/openapi/v1.json", "/scalar", "/nowhere", "/sessions/", "/query/",
        "//", "/users", "/users/x", "/favicon.ico"];

    /// <summary>Stands for the id of a stream that there is: as long as one, and put in when the request is sent.</summary>
    public const string LiveStream = "feedfacefeedfacefeedfacefeedface";

    private static readonly Gen<string> Methods = Gen.OneOf("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
        "PROPFIND", "get", "QUERY", "X");

    private static readonly Gen<string> PathJunk = Gen.OneOf(
        "%00", "a%00b", "%2F", "a%2Fb", "..%2f..%2fetc%2fpasswd", "%2e%2e", "%", "%zz", "%C0%AF", "%E0%80%AF", "%FF%FE", "%ED%A0%80",
        "%252e", "%0d%0aX-Injected:%201", "..", ".", "a;b", "é", "a\\b", "%F0%9F%98%80", "*", "~", "a:b@c");

    private static readonly Gen<(string Name, string Value)> Headers = Gen.OneOf(
        Gen.OneOf(Gen.Int[0, 9].Select(i => $"k{i}"), Gen.OneOf("", " ", new string('k', 255), new string('k', 256), "ключ", "a\tb", "a,b"),
            Gen.String[Gen.Char[' ', '~'], 1, 20]).Select(value => ("Idempotency-Key", value)),
        Gen.Select(Gen.OneOf("If-Match", "If-None-Match"), Gen.Frequency(
            (3, Gen.Select(Gen.Int[0, 9], Gen.Int[1, 3], ETag)),
            (3, Gen.OneOf("*", "\"\"", "W/\"a\"", "a", "\"", "\"a\", \"b\"", ",", "*, \"a\"", "W/", "")),
            (1, Gen.String[Gen.Char[' ', '~'], 0, 30]))),
        Gen.OneOf(Gen.Select(Gen.OneOf(Gen.Guid.Select(id => $"{id:N}"), Gen.Const(LiveStream)),
            FuzzValues.Numbers, (id, number) => $"{id}:{number}"),
            Gen.OneOf("", ":", "0", "abc:def", "00000000000000000000000000000000:99999999999")).Select(value => ("Last-Event-ID", value)),
        Gen.OneOf("text/event-stream", "text/event-stream", "application/json", "*/*", "", "text/event-stream;q=0", "text/html;q=abc", ";;",
            "text/event-stream, application/json", "a/b/c", ",,,").Select(value => ("Accept", value)),
        Gen.OneOf("gzip", "br;q=1.0, *;q=0", "nonsense", "").Select(value => ("Accept-Encoding", value)),
        Gen.OneOf("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0-0-0", "ff-", "").Select(value => ("traceparent", value)),
        Gen.Select(Gen.OneOf("Authorization", "X-API-Key", "X-Cleanup-Key", "Cookie", "Origin", "Referer", "X-HTTP-Method-Override",
            "X-Forwarded-For", "X-Forwarded-Proto", "Range", "baggage", "tracestate", "Date", "Via", "Upgrade", "If-Modified-Since",
            "Content-Range", "Prefer"),
            Gen.OneOf(Gen.OneOf("Bearer x", "Basic Og==", "a=b; c", "DELETE", "bytes=0-1", "websocket", "h2c", "https://evil.example",
                "null", "\"", ""), Gen.String[Gen.Char['\t', '\u00ff'], 0, 40].Select(Printable))),
        Gen.Int[1, 40].Select(i => ($"X-{new string('h', i)}", new string('v', i * i))),
        Gen.Const(("Expect", "100-continue")),
        Gen.Const(("Connection", "close")));

    /// <summary>All kinds, each as often as it deserves.</summary>
    /// <param name="document">The OpenAPI document.</param>
    public static Gen<FuzzRequest> All(JsonNode document)
    {
        var operations = document["paths"]!.AsObject().SelectMany(path => path.Value!.AsObject().Select(operation =>
            (Weight(operation.Key),
                (IGen<FuzzRequest>)Operation(document, operation.Key.ToUpperInvariant(), path.Key, operation.Value!)))).ToArray();
        var described = Gen.Frequency(operations);
        var elsewhere = Gen.Select(Methods, Gen.OneOf(Gen.OneOf(Others), PathJunk.Select(junk => "/" + junk)), Query(["limit"]),
            (method, path, query) => FuzzRequest.From(method, path + query, [], null));
        return Gen.Frequency(
            (80, described),
            (5, Intruders),
            (2, Streams),
            (4, elsewhere),
            (3, described.Where(MayBePipelined).Array[2, 6].Select(FuzzRequest.Pipelined)),
            (8, FuzzFraming.Spoilt(described)));
    }

    // Somebody else's session, with a user of one's own: never to be had.
    private static readonly Gen<FuzzRequest> Intruders = Gen.Select(
        Gen.Int[0, 5], Gen.Bool, Gen.Bool, (user, stream, key) => FuzzRequest.From(
            "POST", "/query",
            key ? [("Content-Type", "application/json"), ("Idempotency-Key", "k1")] : [("Content-Type", "application/json")],
            Encoding.UTF8.GetBytes($$"""{"query":"mine","thread_id":"{{FuzzValues.Canary}}","user_id":"user {{user}}/é","stream":"""
                + $$"""{{(stream ? "true" : "false")}}}""")));

    // Nobody's streams, begun and picked up again: at an event that was told, or at none.
    private static readonly Gen<FuzzRequest> Streams = Gen.Select(Gen.Bool, FuzzValues.Numbers, Stream);

    private static FuzzRequest Stream(bool again, string number)
    {
        (string, string)[] headers = again ? [("Last-Event-ID", $"{LiveStream}:{number}")] : [];
        var body = """{"query":"tell","stream":true}"""u8.ToArray();
        return FuzzRequest.From("POST", "/query", [("Content-Type", "application/json"), .. headers], body) with { Streams = true };
    }

    private static Gen<FuzzRequest> Operation(JsonNode document, string method, string path, JsonNode operation)
    {
        var schema = operation["requestBody"]?["content"]?["application/json"]?["schema"];
        var body = schema is null ? Gen.Const(new FuzzBody(null, null)) : FuzzBody.For(Resolve(document, schema));
        string[] names =
        [
            .. (operation["parameters"]?.AsArray() ?? []).Select(parameter => Resolve(document, parameter!))
                .Where(parameter => (string?)parameter["in"] == "query").Select(parameter => (string)parameter["name"]!),
        ];
        var others = names.Where(name => name != "user_id").ToArray();
        var surprise = Gen.Const(new FuzzBody("application/json", "{\"a\":1}"u8.ToArray()));
        return Gen.Select(
            Gen.Frequency((40, Gen.Const(method)), (1, Methods)),
            Gen.Select(Gen.Frequency((30, Gen.Const("")), (1, Gen.Const("http://localhost"))), Target(path), Gen.Frequency(
                (20, others.Length == 0 ? Gen.Const("") : Query(others)), (1, Query([.. names, "limit", "after", "x"]))),
                (host, target, query) => host + target + query),
            Gen.Frequency((5, Gen.Const(Array.Empty<(string, string)>())), (5, Headers.Array[1, 3]), (1, Headers.Array[20, 120])),
            Gen.Frequency((30, body), (1, surprise)),
            Gen.Int[0, 9],
            (verb, target, headers, content, dice) => FuzzRequest.From(verb, target, [.. headers, .. Describe(content)], content.Bytes,
                chunked: dice == 0 && content.Bytes is not null));
    }

    // More is made than deleted, so that there is something to be met.
    private static int Weight(string method) => method switch
    {
        "post" => 4,
        "delete" => 1,
        _ => 3,
    };

    // Behind one that hangs up the others are not answered.
    private static bool MayBePipelined(FuzzRequest request) =>
        request.Odd is null && request.Bytes.Length < 10_000 && request.Bytes.AsSpan().IndexOf("Connection: close"u8) < 0;

    private static IEnumerable<(string, string)> Describe(FuzzBody body)
    {
        if (body.ContentType is not null)
        {
            yield return ("Content-Type", body.ContentType);
        }

        if (body.Encoding is not null)
        {
            yield return ("Content-Encoding", body.Encoding);
        }
    }

    private static Gen<string> Target(string path)
    {
        var filled = Gen.Const("");
        foreach (var part in Parameter.Split(path))
        {
            var text = part switch
            {
                "{session_id}" => Segment(FuzzValues.SessionIds),
                "{user_id}" => Segment(FuzzValues.UserIds),
                ['{', ..] => Segment(FuzzValues.Nasty),
                _ => Gen.Const(part),
            };
            filled = Gen.Select(filled, text, (a, b) => a + b);
        }

        return filled;
    }

    private static Gen<string> Segment(Gen<string> value) => Gen.Frequency(
        (15, value.Select(text => Uri.EscapeDataString(text))),
        (1, value.Select(text => string.Concat(Encoding.UTF8.GetBytes(text).Select(b => $"%{b:x2}")))),
        (2, PathJunk));

    private static Gen<string> Query(string[] names)
    {
        var name = Gen.Frequency((10, Gen.OneOf(names)), (2, Gen.OneOf("created_from", "created_after", "created_before", "metadata.Topic",
            "metadata.query_count", "metadata.last_query", "user_id", "userId", "active_after", "active_before", "metadata.topic",
            "metadata.last_agent_type", "metadata.", "LIMIT", "x", "")));
        var value = Gen.OneOf(FuzzValues.Numbers, FuzzValues.Cursors, FuzzValues.Times, FuzzValues.Nasty, Gen.OneOf("asc", "desc", "up"));
        var fitting = name.SelectMany(key => Gen.Frequency((1, value), (4, key switch
        {
            "limit" or "metadata.query_count" => FuzzValues.Numbers,
            "user_id" => FuzzValues.UserIds,
            "after" => FuzzValues.Cursors,
            "order" => Gen.OneOf("asc", "desc"),
            _ => FuzzValues.Times,
        })).Select(text => $"{Uri.EscapeDataString(key)}={Uri.EscapeDataString(text)}"));
        var junk = Gen.OneOf("limit", "limit=%00", "after=%FF", "=", "&&&", "order=%", "limit[]=1", "?", "limit=1;after=2", "%6cimit=5");
        return Gen.Frequency((10, fitting), (1, junk)).Array[0, 4].Select(pairs => pairs.Length == 0 ? "" : "?" + string.Join('&', pairs));
    }

    private static JsonObject Resolve(JsonNode document, JsonNode schema)
    {
        var reference = (string?)schema["$ref"]
            ?? (string?)schema["oneOf"]?.AsArray().Select(one => one!["$ref"]).FirstOrDefault(one => one is not null);
        return reference is null ? schema.AsObject() : reference[2..].Split('/').Aggregate(document, (at, name) => at[name]!).AsObject();
    }

    // As ours is: a run's sessions are made at its start, or when it was cleared for the n-th time.
    private static string ETag(int cleared, int version) =>
        string.Create(CultureInfo.InvariantCulture, $"\"{(FuzzRun.Began + (cleared * FuzzRun.Lifetime)).ToMicroseconds():x}-{version}\"");

    private static string Printable(string text) => string.Concat(text.Where(c => c is not ('\r' or '\n' or '\0')));

    [GeneratedRegex(@"(\{\w+\})")]
    private static partial Regex Parameter { get; }
}

using System.IO.Compression;
using System.Text.Json.Nodes;
using CsCheck;

namespace Sessions.Tests.Fuzz;

/// <summary>Request bodies: made from a schema of the OpenAPI document, and then spoilt.</summary>
/// <param name="ContentType">As what it is sent.</param>
/// <param name="Bytes">The body; <see langword="null"/>: none.</param>
/// <param name="Encoding">Its <c>Content-Encoding</c>, if it claims one.</param>
internal sealed record FuzzBody(string? ContentType, byte[]? Bytes, string? Encoding = null)
{
    private const int Limit = 1 << 20;

    private static readonly Gen<string?> ContentTypes = Gen.Frequency(
        (40, Gen.Const<string?>("application/json")),
        (10, Gen.OneOf<string?>("application/json; charset=utf-8", "application/json;charset=UTF-8", "APPLICATION/JSON",
            "application/merge-patch+json", "application/problem+json")),
        (5, Gen.OneOf<string?>(null, "", "text/plain", "application/xml", "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x", "application/json; charset=utf-16", "application/json; charset=latin1",
            "application/json; charset=", "application/json; charset=nonsense", "application/json, text/plain", "json", "*/*",
            "application/", ";", "application/json;;;=")));

    /// <summary>Bodies for an operation.</summary>
    public static Gen<FuzzBody> For(JsonObject schema)
    {
        var valid = Object(schema, Gen.Const(0));
        var any = Object(schema, Gen.Int[0, 9]);
        return Gen.Select(Gen.Frequency((6, valid), (4, any), (1, FuzzValues.Json),
            (1, Gen.OneOf("", "null", "[]", "{}", "{}{}", "\"text\"", "12", " ", "{", "}"))), ContentTypes)
            .SelectMany((json, type) => Gen.Frequency((600, Gen.Const(new FuzzBody(type, System.Text.Encoding.UTF8.GetBytes(json)))),
                (300, Spoilt(json, type)), (4, AtTheLimit(json, type))));
    }

    private static Gen<FuzzBody> Spoilt(string json, string? type)
    {
        var bytes = System.Text.Encoding.UTF8.GetBytes(json);
        return Gen.Select(Gen.Int[0, 9], Gen.Int[0, Math.Max(0, bytes.Length - 1)], Gen.Byte, (kind, at, value) => kind switch
        {
            0 => new FuzzBody(type, null),
            1 => new FuzzBody(type, bytes[..at]),
            2 => new FuzzBody(type, [.. bytes[..at], value, .. bytes[at..]]),
            3 => new FuzzBody(type, [.. bytes[..at], value, .. bytes[Math.Min(at + 1, bytes.Length)..]]),
            4 => new FuzzBody(type, [0xEF, 0xBB, 0xBF, .. bytes]),
            5 => new FuzzBody(type, [.. bytes, .. bytes[at..]]),
            6 => new FuzzBody("application/json; charset=utf-16", System.Text.Encoding.Unicode.GetBytes(json)),
            7 => new FuzzBody(type, Compressed(bytes, stream => new GZipStream(stream, CompressionLevel.Fastest)), "gzip"),
            8 => new FuzzBody(type, Compressed(bytes, stream => new BrotliStream(stream, CompressionLevel.Fastest)), "br"),
            _ => new FuzzBody(type, bytes, value % 2 == 0 ? "gzip" : "nonsense"),
        });
    }

    // Filled up with white space, which JSON allows.
    private static Gen<FuzzBody> AtTheLimit(string json, string? type) => Gen.Int[-1, 1].Select(more =>
    {
        var bytes = new byte[Limit + more];
        Array.Fill(bytes, (byte)' ');
        System.Text.Encoding.UTF8.GetBytes(json).AsSpan()[..Math.Min(json.Length, 1000)].CopyTo(bytes);
        return new FuzzBody(type, bytes);
    });

    // Each property, or not; with a fitting value, or one for which the dice fall on 9 with any; now and then twice, or another one.
    private static Gen<string> Object(JsonObject schema, Gen<int> dice)
    {
        var required = schema["required"]?.AsArray().Select(name => (string)name!).ToHashSet() ?? [];
        var properties = (schema["properties"]?.AsObject() ?? []).Select(property => Gen.Select(
            Gen.Int[0, 19], dice, Fitting(property.Key, property.Value!), FuzzValues.Json, (chance, fits, fitting, any) =>
                chance > (required.Contains(property.Key) ? 18 : 11)
                    ? ""
                    : $"{FuzzValues.Text(property.Key)}:{(fits == 9 ? any : fitting)},")).ToArray();
        var fields = properties.Aggregate(Gen.Const(""), (all, next) => Gen.Select(all, next, (a, b) => a + b));
        return Gen.Select(fields, dice, FuzzValues.Nasty, FuzzValues.Json, (text, more, name, value) =>
            $"{{{(more == 7 ? $"{FuzzValues.Text(name)}:{value}," : "")}{(more == 8 ? text : "")}{(more == 6 ? "\"userId\":1," : "")}{text}"
                .TrimEnd(',') + "}");
    }

    private static Gen<string> Fitting(string name, JsonNode schema) => name switch
    {
        "thread_id" or "session_id" => FuzzValues.SessionIds.Select(FuzzValues.Text),
        "user_id" => FuzzValues.UserIds.Select(FuzzValues.Text),
        "query" => Gen.Frequency((10, Gen.String[1, 60].Select(FuzzValues.Text)), (3, FuzzValues.Nasty.Select(FuzzValues.Text))),
        "agent_type" => Gen.OneOf("\"advanced\"", "\"advanced\"", "null", "\"nobody\""),
        "on_busy" => Gen.OneOf("\"enqueue\"", "\"reject\"", "null"),
        "stream" => Gen.OneOf("true", "false", "false", "null"),
        "metadata" => Gen.Select(FuzzValues.Nasty, FuzzValues.Json,
            (key, value) => $"{{\"topic\":{FuzzValues.Text(key)},{FuzzValues.Text(key)}:{value}}}"),
        "parameters" => Gen.Select(Gen.OneOf("temperature", "top_p", "max_output_tokens", "frequency_penalty", "presence_penalty", "seed",
            "stop", "history_turns", "model", "tools", "other"), FuzzValues.Numbers, FuzzValues.Json,
            (parameter, number, any) => $"{{\"{parameter}\":{(number.Length > 3 ? any : double.TryParse(number, out _) ? number : "1")}}}"),
        "after_turn" => Gen.Frequency((5, Gen.Int[0, 2].Select(turn => $"{turn}")), (1, FuzzValues.Numbers)),
        _ when $"{schema["type"]}".Contains("integer", StringComparison.Ordinal) => FuzzValues.Numbers,
        _ when $"{schema["type"]}".Contains("boolean", StringComparison.Ordinal) => Gen.OneOf("true", "false"),
        _ when $"{schema["type"]}".Contains("string", StringComparison.Ordinal) => FuzzValues.Nasty.Select(FuzzValues.Text),
        _ => FuzzValues.Json,
    };

    private static byte[] Compressed(byte[] bytes, Func<Stream, Stream> compression)
    {
        using var compressed = new MemoryStream();
        using (var stream = compression(compressed))
        {
            stream.Write(bytes);
        }

        return compressed.ToArray();
    }
}

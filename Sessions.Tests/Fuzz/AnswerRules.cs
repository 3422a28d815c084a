using System.Net.ServerSentEvents;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Sessions.Tests.Fuzz;

/// <summary>What every answer must keep to, whatever was asked.</summary>
internal static partial class AnswerRules
{
    // Said by the server beneath about what is not proper HTTP; 405 about a target that is for CONNECT or OPTIONS alone. 505 is what the
    // standard asks for; no other 5xx is allowed to anybody.
    private static readonly int[] Bare = [400, 405, 408, 411, 413, 414, 417, 431, 505];

    // Each row of the table in docs/errors.md: which code comes with which statuses.
    private static readonly Dictionary<string, string[]> Documented = Row.Matches(File.ReadAllText(Repository.File("docs", "errors.md")))
        .GroupBy(row => row.Groups[2].Value)
        .ToDictionary(rows => rows.Key, rows => rows.SelectMany(row => row.Groups[1].Value.Split(", ")).ToArray());

    /// <summary>What is wrong with the answers, if anything.</summary>
    /// <param name="request">The request.</param>
    /// <param name="answers">What was answered.</param>
    /// <param name="mayBeFull">Whether there may be no room for what is sent, which is the one thing that is then no client's
    /// fault.</param>
    public static string? Check(FuzzRequest request, IReadOnlyList<RawAnswer> answers, bool mayBeFull)
    {
        // Behind a bare refusal the server hangs up: what else was sent with it stays unanswered.
        if (answers.Count < request.Methods.Count && !request.Broken
            && !(request.Odd is not null && answers is [.., var last] && IsBare(last)))
        {
            return $"{answers.Count} answers to {request.Methods.Count} requests";
        }

        for (var i = 0; i < answers.Count; i++)
        {
            if (Check(answers[i], i < request.Methods.Count ? request.Methods[i] : null,
                bareAllowed: request.Broken || request.Odd is not null, mayBeFull) is { } wrong)
            {
                return $"{wrong}\n{answers[i].Status} {answers[i].MediaType}: {Problem(answers[i].Text)}";
            }
        }

        return null;
    }

    private static string? Check(RawAnswer answer, string? method, bool bareAllowed, bool mayBeFull)
    {
        if (IsBare(answer))
        {
            return bareAllowed ? null : "a bare status from the server beneath, for a request that is proper HTTP";
        }

        if (answer.Status >= 500 && !(mayBeFull && IsFull(answer.Status, answer.Text)))
        {
            return "a 5xx";
        }

        if (answer.Headers.GetValueOrDefault("X-Content-Type-Options") != "nosniff")
        {
            return "no X-Content-Type-Options: nosniff";
        }

        if (answer.Headers.ContainsKey("Server"))
        {
            return "a Server header";
        }

        // What was broken may have been a HEAD.
        if (method == "HEAD" || (answer.Body.Length == 0 && (method is null || answer.Status is 204 or 302 or 304)))
        {
            return null;
        }

        try
        {
            return answer.Status >= 400 ? CheckProblem(answer) : CheckContent(answer, mayBeFull);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return $"no valid content: {e.Message}";
        }
    }

    private static string? CheckContent(RawAnswer answer, bool mayBeFull)
    {
        switch (answer.MediaType)
        {
            case "application/json":
                JsonNode.Parse(answer.Body);
                return null;
            case "application/x-ndjson":
                foreach (var line in answer.Text.Split('\n', StringSplitOptions.RemoveEmptyEntries))
                {
                    JsonNode.Parse(line);
                }

                return null;
            case "text/event-stream":
                using (var stream = new MemoryStream(answer.Body))
                {
                    var events = SseParser.Create(stream).Enumerate().ToList();
                    events.ForEach(told => _ = told.Data == "[DONE]" ? null : JsonNode.Parse(told.Data));
                    if (events is [..,
                        { Data: "[DONE]" } or { EventType: "response.completed" or "response.incomplete" or "response.failed" }])
                    {
                        return null;
                    }

                    // Nothing is left to whoever has seen the end.
                    return events is [] or [.., { EventType: "done" }]
                        || (events is [.., { EventType: "error" } error] && (int)JsonNode.Parse(error.Data)!["status"]! is var status
                            && (status < 500 || (mayBeFull && IsFull(status, error.Data))))
                        ? null : "a stream without its end";
                }

            default:
                return answer.Status == 200 && answer.MediaType is "text/html" or "text/javascript" or "application/javascript"
                    ? null
                    : "an unknown kind of content";
        }
    }

    private static string? CheckProblem(RawAnswer answer)
    {
        if (answer.MediaType == "application/json" && JsonNode.Parse(answer.Body)?["error"] is JsonObject error)
        {
            return CheckOpenAiError(answer, error);
        }

        if (answer.MediaType != "application/problem+json")
        {
            return "an error that is no problem";
        }

        var problem = JsonNode.Parse(answer.Body)!.AsObject();
        var code = (string?)problem["code"] ?? "";
        var missing = (string[])["type", "title", "detail", "trace_id"];
        if (missing.FirstOrDefault(name => string.IsNullOrEmpty((string?)problem[name])) is { } name)
        {
            return $"a problem without {name}";
        }

        if ((int?)problem["status"] != answer.Status || (string?)problem["type"] != $"urn:sessions:problem:{code}")
        {
            return "a problem that contradicts itself";
        }

        if (!Documented.TryGetValue(code, out var statuses) || !statuses.Contains($"{answer.Status}"))
        {
            return $"{code} with {answer.Status} is not in docs/errors.md";
        }

        if (Trace.IsMatch(answer.Text))
        {
            return "a trace of the program's insides";
        }

        return answer.Status switch
        {
            405 when !answer.Headers.ContainsKey("Allow") => "a 405 without Allow",
            413 when problem["limit"] is null => "a 413 that names no limit",
            422 when code != "idempotency_key_reused" && problem["errors"] is not JsonObject { Count: > 0 } => "a 422 that names no field",
            _ => null,
        };
    }

    // Under /v1 errors have OpenAI's form.
    private static string? CheckOpenAiError(RawAnswer answer, JsonObject error)
    {
        if (((string[])["message", "type"]).FirstOrDefault(name => string.IsNullOrEmpty((string?)error[name])) is { } name)
        {
            return $"an error without {name}";
        }

        return ((string[])["param", "code"]).FirstOrDefault(name => !error.ContainsKey(name)) is { } missing ? $"an error without {missing}"
            : Trace.IsMatch(answer.Text) ? "a trace of the program's insides"
            : answer.Status == 405 && !answer.Headers.ContainsKey("Allow") ? "a 405 without Allow"
            : null;
    }

    private static bool IsFull(int status, string text) =>
        status == 503 && text.Contains("\"code\":\"storage_full\"", StringComparison.Ordinal);

    private static bool IsBare(RawAnswer answer) =>
        Bare.Contains(answer.Status) && answer.Body.Length == 0 && !answer.Headers.ContainsKey("X-Content-Type-Options");

    private static string Problem(string text) => text.Length <= 2000 ? text : text[..2000] + "…";

    [GeneratedRegex(@"^\| ([0-9, ]+) \| `(\w+)` \|", RegexOptions.Multiline)]
    private static partial Regex Row { get; }

    [GeneratedRegex(@"Exception|StackTrace|\.cs:line|   at [A-Z]\w+\.")]
    private static partial Regex Trace { get; }
}

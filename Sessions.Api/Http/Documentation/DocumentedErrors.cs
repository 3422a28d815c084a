using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.WebUtilities;

namespace Sessions.Api.Http.Documentation;

/// <summary>Names the errors of each operation in the OpenAPI document: its own, and those that every one of its kind can answer.</summary>
internal static class DocumentedErrors
{
    // Authentication, rate limits, overload and stopping stand before every route.
    private static readonly int[] OfAll =
    [
        StatusCodes.Status401Unauthorized, StatusCodes.Status403Forbidden, StatusCodes.Status429TooManyRequests,
            StatusCodes.Status503ServiceUnavailable,
    ];

    private static readonly int[] OfBodies =
    [
        StatusCodes.Status400BadRequest, StatusCodes.Status408RequestTimeout, StatusCodes.Status413PayloadTooLarge,
        StatusCodes.Status415UnsupportedMediaType,
    ];

    // OpenAI's wire says 400 where ours says 422.
    private static readonly int[] OfOpenAi = [StatusCodes.Status400BadRequest];

    private static readonly int[] OfKeys = [StatusCodes.Status409Conflict, StatusCodes.Status422UnprocessableEntity];

    /// <summary>Does it for one operation.</summary>
    public static void Name(string path, JsonObject operation)
    {
        // The common errors take the place of those that the framework has found, whose words are those of HTTP.
        var isOpenAi = OpenAi.OpenAiApi.IsFor(path);
        var responses = operation["responses"]!.AsObject();
        SortedDictionary<int, JsonNode> all = [];
        foreach (var (status, response) in responses)
        {
            var number = int.Parse(status, CultureInfo.InvariantCulture);
            all[number] = number < 400 || response!["content"]?["application/json"] is not null ? response!.DeepClone()
                : Reference(number, isOpenAi);
        }

        foreach (var status in Common(operation, isOpenAi))
        {
            all.TryAdd(status, Reference(status, isOpenAi));
        }

        responses.Clear();
        foreach (var (status, response) in all)
        {
            responses[status.ToString(CultureInfo.InvariantCulture)] = response;
        }
    }

    private static IEnumerable<int> Common(JsonObject operation, bool isOpenAi)
    {
        if ((string?)operation["tags"]?[0] == HomeApi.Tag)
        {
            // Open to all, and answered also when the server is full.
            return [StatusCodes.Status400BadRequest];
        }

        var hasBody = operation["requestBody"] is not null;
        var hasKey = operation["parameters"]?.AsArray().Any(parameter =>
            (string?)parameter!["$ref"] == "#/components/parameters/idempotency_key") == true;
        return [.. OfAll, .. isOpenAi ? OfOpenAi : [], .. hasBody ? OfBodies : [], .. hasKey ? OfKeys : []];
    }

    private static JsonObject Reference(int status, bool isOpenAi)
    {
        var name = ReasonPhrases.GetReasonPhrase(status).Replace(" ", "", StringComparison.Ordinal);
        return new JsonObject { ["$ref"] = $"#/components/responses/{(isOpenAi ? "OpenAi" : "")}{name}" };
    }
}

using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Json.Schema;

namespace Sessions.Tests.OpenAi;

/// <summary>The shapes that answers and events have: <c>Schemas/v1.json</c>.</summary>
internal static partial class Schemas
{
    private static readonly JsonNode Definitions = JsonNode.Parse(
        File.ReadAllText(Repository.File("Sessions.Tests", "OpenAi", "Schemas", "v1.json")))!["$defs"]!;
    private static readonly ConcurrentDictionary<string, JsonSchema> Read = new();

    /// <summary>Checks a document against one of the shapes.</summary>
    public static void Check(string name, JsonNode? document)
    {
        var faults = FaultsOf(name, document);
        Assert.True(faults.Count == 0, $"Not of the shape '{name}': {string.Join("; ", faults)}\n{document?.ToJsonString()}");
    }

    /// <summary>What is wrong with a document; nothing: it has the shape.</summary>
    public static List<string> FaultsOf(string name, JsonNode? document)
    {
        var schema = Read.GetOrAdd(name, static name =>
        {
            Assert.True(Definitions[name] is not null, $"There is no shape '{name}'.");
            return JsonSchema.FromText(new JsonObject { ["$ref"] = $"#/$defs/{name}", ["$defs"] = Definitions.DeepClone() }.ToJsonString());
        });
        var result = schema.Evaluate(System.Text.Json.JsonSerializer.SerializeToElement(document),
            new EvaluationOptions { OutputFormat = OutputFormat.List });
        if (result.IsValid)
        {
            return [];
        }

        List<string> faults = [];
        foreach (var detail in result.Details ?? [])
        {
            foreach (var (keyword, message) in detail.Errors ?? new Dictionary<string, string>())
            {
                faults.Add($"{detail.InstanceLocation} {keyword}: {message}");
            }
        }

        return faults.Count > 0 ? faults : ["invalid"];
    }

    /// <summary>The shape of what a request is answered with.</summary>
    public static string NameOf(HttpMethod method, string path, int status)
    {
        if (status >= 400)
        {
            return "error";
        }

        path = path.Split('?')[0];
        foreach (var (pattern, on, name) in Answers)
        {
            if (on == method.Method && Regex.IsMatch(path, pattern))
            {
                return name;
            }
        }

        throw new InvalidOperationException($"{method} {path} has no shape.");
    }

    private static readonly (string Pattern, string Method, string Name)[] Answers =
    [
        ("^/v1/models/?$", "GET", "models"),
        ("^/v1/models/.+$", "GET", "model"),
        ("^/v1/conversations$", "GET", "conversations"),
        ("^/v1/conversations$", "POST", "conversation"),
        ("^/v1/conversations/[^/]+$", "GET", "conversation"),
        ("^/v1/conversations/[^/]+$", "POST", "conversation"),
        ("^/v1/conversations/[^/]+$", "DELETE", "conversationDeleted"),
        ("^/v1/conversations/[^/]+/items$", "GET", "items"),
        ("^/v1/conversations/[^/]+/items$", "POST", "items"),
        ("^/v1/conversations/[^/]+/items/[^/]+$", "GET", "item"),
        ("^/v1/conversations/[^/]+/items/[^/]+$", "DELETE", "conversation"),
        ("^/v1/responses$", "POST", "response"),
        ("^/v1/responses/[^/]+$", "GET", "response"),
        ("^/v1/responses/[^/]+$", "DELETE", "responseDeleted"),
        ("^/v1/responses/[^/]+/input_items$", "GET", "items"),
        ("^/v1/chat/completions$", "POST", "chatCompletion"),
    ];
}

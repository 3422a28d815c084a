using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.Documentation;

/// <summary>
/// The OpenAPI document. Addresses, descriptions and the shapes of our own messages are found by the framework; what it can't know
/// (headers, filters, examples, OpenAI's wire) is laid over it from the JSON files beside this one.
/// </summary>
internal static class ApiDocument
{
    private const string Name = "v1";
    private const string Address = $"/openapi/{Name}.json";
    private static readonly string[] Overlays = ["common", "native", "openai"];

    /// <summary>Maps its address.</summary>
    public static void MapApiDocument(this WebApplication app)
    {
        // Nothing in it depends on the request, so it is made once.
        byte[]? document = null;
        app.MapGet(Address, async ([FromKeyedServices(Name)] IOpenApiDocumentProvider provider, CancellationToken cancellationToken) =>
                TypedResults.Bytes(document ??= await WriteAsync(provider, cancellationToken), "application/json; charset=utf-8"))
            .AllowAnonymous()
            .ExcludeFromDescription();
    }

    private static async Task<byte[]> WriteAsync(IOpenApiDocumentProvider provider, CancellationToken cancellationToken)
    {
        var found = await provider.GetOpenApiDocumentAsync(cancellationToken);
        var document = JsonNode.Parse(await found.SerializeAsJsonAsync(OpenApiSpecVersion.OpenApi3_1, cancellationToken))!.AsObject();
        var schemas = document["components"]!["schemas"]!.AsObject();
        TidyUp(schemas);
        foreach (var overlay in Overlays)
        {
            Overlay(document, Read(overlay));
        }

        schemas["StorageType"]!["enum"] = new JsonArray([.. Enum.GetValues<StorageType>().Select(type => (JsonNode)Settings.NameOf(type))]);
        foreach (var (path, operations) in document["paths"]!.AsObject())
        {
            foreach (var (_, operation) in operations!.AsObject())
            {
                DocumentedErrors.Name(path, operation!.AsObject());
            }
        }

        return Encoding.UTF8.GetBytes(document.ToJsonString(ApiJson.Wire.Options));
    }

    // Comments are broken into lines. And what is not required in an answer is left out of it, rather than null.
    private static void TidyUp(JsonObject schemas)
    {
        foreach (var (name, schema) in schemas)
        {
            var required = schema!["required"]?.AsArray().Select(field => (string)field!).ToHashSet() ?? [];
            foreach (var (field, property) in schema["properties"]?.AsObject() ?? [])
            {
                if ((string?)property!["description"] is { } description)
                {
                    property["description"] = string.Join(' ', description.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
                }

                if (!name.EndsWith("Request", StringComparison.Ordinal) && !required.Contains(field))
                {
                    TakeNullOut(property.AsObject());
                }
            }
        }
    }

    private static void TakeNullOut(JsonObject property)
    {
        if (property["type"] is JsonArray types && types.SingleOrDefault(type => (string?)type != "null") is { } type)
        {
            property["type"] = type.DeepClone();
        }
        else if (property["oneOf"] is JsonArray choices
            && choices.SingleOrDefault(choice => (string?)choice!["type"] != "null") is JsonObject only)
        {
            property.Remove("oneOf");
            foreach (var (name, value) in only)
            {
                property[name] = value?.DeepClone();
            }
        }
    }

    private static JsonObject Read(string overlay)
    {
        using var stream = typeof(ApiDocument).Assembly.GetManifestResourceStream($"openapi/{overlay}.json")!;
        return JsonNode.Parse(stream)!.AsObject();
    }

    // As a JSON merge patch (RFC 7396), in which null removes; but an example stands as it is, with its nulls.
    private static void Overlay(JsonObject target, JsonObject overlay)
    {
        foreach (var (name, value) in overlay)
        {
            if (value is null)
            {
                target.Remove(name);
            }
            else if (value is JsonObject inner && name != "example")
            {
                if (target[name] is not JsonObject known)
                {
                    target[name] = known = [];
                }

                Overlay(known, inner);
            }
            else
            {
                target[name] = value.DeepClone();
            }
        }
    }
}

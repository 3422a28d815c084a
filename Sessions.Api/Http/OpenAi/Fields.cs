using System.Text.Json;
using Sessions.Api.Domain;

namespace Sessions.Api.Http.OpenAi;

/// <summary>The fields of a request's body under <c>/v1</c>. <c>null</c> is like absent; a field that nobody asks for is unknown.</summary>
internal readonly struct Fields(JsonElement body, string prefix = "")
{
    /// <summary>Refuses fields that are not among those known.</summary>
    /// <exception cref="OpenAiException">There is one.</exception>
    public void RequireKnown(params ReadOnlySpan<string> known)
    {
        RequireObject();
        foreach (var property in body.EnumerateObject())
        {
            if (!known.Contains(property.Name))
            {
                var name = prefix + Error.Shorten(property.Name);
                throw new OpenAiException(name, $"Unknown parameter: '{name}'.", "unknown_parameter");
            }
        }
    }

    /// <summary>A field; <see langword="null"/> where it is absent or null.</summary>
    /// <exception cref="OpenAiException">What the fields are asked of is no object.</exception>
    public JsonElement? Any(string name)
    {
        RequireObject();
        return body.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value : null;
    }

    public string? Text(string name) => Any(name) is not { } value ? null
        : value.ValueKind != JsonValueKind.String ? throw WrongType(name, "a text")
        : TryText(value) ?? throw new OpenAiException(prefix + name, $"Invalid '{prefix}{name}': must be valid Unicode.");

    /// <summary>A field that must be there.</summary>
    public JsonElement Required(string name) => Any(name) ?? throw OpenAiException.Missing(prefix + name);

    /// <summary>A text that must be there.</summary>
    public string RequiredText(string name) => Text(name) ?? throw OpenAiException.Missing(prefix + name);

    /// <summary>A text that must be there, and not empty.</summary>
    public string Name(string name) => RequiredText(name) is { Length: > 0 } text ? text
        : throw new OpenAiException(prefix + name, $"Invalid '{prefix}{name}': must not be empty.", "empty_string");

    /// <summary>One of some words.</summary>
    public string? Word(string name, params ReadOnlySpan<string> allowed) => Text(name) is not { } word ? null
        : allowed.Contains(word) ? word
        : throw new OpenAiException(
            prefix + name,
            $"Invalid value: '{Error.Shorten(word)}'. Supported values are: {string.Join(", ", allowed.ToArray())}.");

    public bool? Flag(string name) => Any(name) is not { } value ? null
        : value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean()
        : throw WrongType(name, "true or false");

    public JsonElement? Object(string name) => Any(name) is not { } value ? null
        : value.ValueKind == JsonValueKind.Object ? value
        : throw WrongType(name, "an object");

    public JsonElement? Array(string name) => Any(name) is not { } value ? null
        : value.ValueKind == JsonValueKind.Array ? value
        : throw WrongType(name, "an array");

    /// <summary>An object that must be there.</summary>
    public JsonElement RequiredObject(string name) => Object(name) ?? throw OpenAiException.Missing(prefix + name);

    /// <summary>An array that must be there.</summary>
    public JsonElement RequiredArray(string name) => Array(name) ?? throw OpenAiException.Missing(prefix + name);

    public float? Number(string name, float min, float max)
    {
        if (Any(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind != JsonValueKind.Number || !value.TryGetSingle(out var number))
        {
            throw WrongType(name, "a number");
        }

        return number >= min && number <= max ? number
            : throw new OpenAiException(
                prefix + name, $"Invalid '{prefix}{name}': must be from {min} to {max}.",
                number > max ? "decimal_above_max_value" : "decimal_below_min_value");
    }

    public long? Long(string name) => Any(name) is not { } value ? null
        : value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out var number) ? number
        : throw WrongType(name, "a whole number");

    public int? Integer(string name, int min, int max = int.MaxValue)
    {
        if (Any(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind != JsonValueKind.Number || !value.TryGetInt32(out var number))
        {
            throw WrongType(name, "a whole number");
        }

        return number >= min && number <= max ? number
            : throw new OpenAiException(
                prefix + name, $"Invalid '{prefix}{name}': must be from {min} to {max}.",
                number > max ? "integer_above_max_value" : "integer_below_min_value");
    }

    /// <summary>Refuses a field that is there.</summary>
    public void Refuse(string name, string why)
    {
        if (Any(name) is not null)
        {
            throw new OpenAiException(prefix + name, $"Unsupported parameter: '{prefix}{name}'. {why}", "unsupported_parameter");
        }
    }

    /// <summary>Refuses what is no object.</summary>
    /// <exception cref="OpenAiException">It is none.</exception>
    public void RequireObject()
    {
        if (body.ValueKind != JsonValueKind.Object)
        {
            var name = prefix.TrimEnd('.');
            throw new OpenAiException(
                name.Length == 0 ? null : name,
                $"Invalid type for '{(name.Length == 0 ? "body" : name)}': expected an object.", "invalid_type");
        }
    }

    private static string? TryText(JsonElement value)
    {
        try
        {
            return value.GetString();
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }

    private OpenAiException WrongType(string name, string expected) =>
        new(prefix + name, $"Invalid type for '{prefix}{name}': expected {expected}.", "invalid_type");
}

using System.Buffers;
using System.Text.Json;

namespace Sessions.Api.Engine.Agents;

/// <summary>Reads what a provider says when it refuses: words for programs, and nothing else, as it may quote what a user wrote.</summary>
internal static class ProviderRefusals
{
    private const int MaxWordLength = 64;

    private static readonly SearchValues<char> WordCharacters =
        SearchValues.Create("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");

    /// <summary>Reads a body.</summary>
    /// <param name="body">The body, or as much of it as there is.</param>
    /// <param name="status">The status.</param>
    /// <param name="retryAfter">When to try again.</param>
    public static ProviderRefusal Read(ReadOnlyMemory<byte> body, int? status, TimeSpan? retryAfter)
    {
        try
        {
            using var document = JsonDocument.Parse(body);
            var root = document.RootElement;
            var isNested = root.ValueKind == JsonValueKind.Object && root.TryGetProperty("error", out _);
            return Read(isNested ? root.GetProperty("error") : root, status, retryAfter);
        }
        catch (JsonException)
        {
            return new ProviderRefusal(status, null, null, retryAfter);
        }
    }

    /// <summary>Reads an error.</summary>
    public static ProviderRefusal Read(JsonElement error, int? status, TimeSpan? retryAfter) =>
        new(status, Word(error, "code"), Word(error, "type"), retryAfter);

    /// <summary>Whether a text is a word for programs.</summary>
    public static bool IsWord(string? word) =>
        word is { Length: > 0 and <= MaxWordLength } && !word.AsSpan().ContainsAnyExcept(WordCharacters);

    private static string? Word(JsonElement element, string name)
    {
        if (element.ValueKind != JsonValueKind.Object || !element.TryGetProperty(name, out var value))
        {
            return null;
        }

        try
        {
            var word = value.ValueKind switch
            {
                JsonValueKind.Number => value.GetRawText(),
                JsonValueKind.String => value.GetString(),
                _ => null,
            };
            return IsWord(word) ? word : null;
        }
        catch (InvalidOperationException)
        {
            // Half a surrogate pair, which is no word.
            return null;
        }
    }
}

using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Http.OpenAi;

namespace Sessions.Api.Http.Native;

/// <summary>Reads the <c>parameters</c> of a query.</summary>
internal static class GenerationParameters
{
    private const int MaxOthers = 64;

    private static readonly string[] Reserved = ["model", "messages", "stream", "tools", "tool_choice", "n", "store", "service_tier"];

    /// <summary>Reads and checks the parameters of a query.</summary>
    /// <exception cref="DomainException">One of them is not allowed.</exception>
    public static AnswerOptions Read(JsonElement? parameters)
    {
        if (parameters is not { } given)
        {
            return AnswerOptions.None;
        }

        if (given.ValueKind != JsonValueKind.Object)
        {
            throw Invalid("parameters", "must be a JSON object");
        }

        try
        {
            var read = AnswerOptions.None;
            Dictionary<string, JsonElement>? others = null;
            foreach (var parameter in given.EnumerateObject())
            {
                if (parameter.Value.ValueKind != JsonValueKind.Null)
                {
                    read = Read(read, parameter, ref others);
                }
            }

            return others is null ? read : read with { Others = others };
        }
        catch (InvalidOperationException)
        {
            throw Invalid("parameters", "must be valid Unicode");
        }
    }

    private static AnswerOptions Read(
        AnswerOptions read, JsonProperty parameter, ref Dictionary<string, JsonElement>? others) => parameter.Name switch
        {
            "temperature" => read with { Temperature = Number(parameter, 0, 2) },
            "top_p" => read with { TopP = Number(parameter, 0, 1) },
            "max_output_tokens" => read with { MaxOutputTokens = WholeNumber(parameter, 1, int.MaxValue) },
            "frequency_penalty" => read with { FrequencyPenalty = Number(parameter, -2, 2) },
            "presence_penalty" => read with { PresencePenalty = Number(parameter, -2, 2) },
            "seed" => read with
            {
                Seed = parameter.Value.ValueKind == JsonValueKind.Number && parameter.Value.TryGetInt64(out var seed) ? seed
                    : throw Invalid("parameters.seed", "must be a whole number"),
            },
            "stop" => read with { Stop = Texts(parameter) },
            "history_turns" => read with { HistoryTurns = WholeNumber(parameter, 0, 1000) },
            _ => Add(read, parameter, ref others),
        };

    // What we have no name for reaches the provider as it is.
    private static AnswerOptions Add(AnswerOptions read, JsonProperty parameter, ref Dictionary<string, JsonElement>? others)
    {
        if (!AgentOptions.IsParameter(parameter.Name))
        {
            throw Invalid($"parameters.{Error.Shorten(parameter.Name)}", "must be called by letters, digits and '_', 64 at most");
        }

        // Some providers read names in any case, or in the case of their own language.
        if (Reserved.Any(name => FieldNames.AreAlike(parameter.Name, name)))
        {
            throw Invalid($"parameters.{parameter.Name}", "is the server's, and can't be set");
        }

        // Half a surrogate pair is no text that a provider could be sent.
        InputItems.CheckUnicode(parameter.Value, $"parameters.{parameter.Name}");
        others ??= new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        others[parameter.Name] = parameter.Value;
        return others.Count <= MaxOthers ? read : throw Invalid("parameters", $"must have at most {MaxOthers} names of its own");
    }

    private static float Number(JsonProperty parameter, float min, float max) =>
        parameter.Value.ValueKind == JsonValueKind.Number && parameter.Value.TryGetSingle(out var number) && number >= min && number <= max
            ? number
            : throw Invalid($"parameters.{parameter.Name}", $"must be a number from {min} to {max}");

    private static int WholeNumber(JsonProperty parameter, int min, int max) =>
        parameter.Value.ValueKind == JsonValueKind.Number && parameter.Value.TryGetInt32(out var number) && number >= min && number <= max
            ? number
            : throw Invalid($"parameters.{parameter.Name}", $"must be a whole number from {min} to {max}");

    private static List<string> Texts(JsonProperty parameter)
    {
        if (parameter.Value.ValueKind == JsonValueKind.String)
        {
            return [parameter.Value.GetString()!];
        }

        if (parameter.Value.ValueKind != JsonValueKind.Array || parameter.Value.GetArrayLength() is 0 or > 4
            || parameter.Value.EnumerateArray().Any(text => text.ValueKind != JsonValueKind.String))
        {
            throw Invalid("parameters.stop", "must be a text or a list of 1 to 4 texts");
        }

        return [.. parameter.Value.EnumerateArray().Select(text => text.GetString()!)];
    }

    private static DomainException Invalid(string field, string rule) => new(Error.InvalidField(field, rule));
}

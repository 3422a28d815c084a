using System.Text.Json;

namespace Sessions.Api;

/// <summary>The <c>parameters</c> of a query.</summary>
internal sealed record GenerationParameters
{
    private const int MostOthers = 64;

    private static readonly GenerationParameters None = new();

    /// <summary>0 to 2.</summary>
    public float? Temperature { get; init; }

    /// <summary>0 to 1.</summary>
    public float? TopP { get; init; }

    /// <summary>At least 1.</summary>
    public int? MaxOutputTokens { get; init; }

    /// <summary>-2 to 2.</summary>
    public float? FrequencyPenalty { get; init; }

    /// <summary>-2 to 2.</summary>
    public float? PresencePenalty { get; init; }

    /// <summary>Any whole number.</summary>
    public long? Seed { get; init; }

    /// <summary>Up to 4 texts.</summary>
    public IList<string>? Stop { get; init; }

    /// <summary>How many earlier turns the agent is given: 0 to 1000.</summary>
    public int? HistoryTurns { get; init; }

    /// <summary>What we have no name for: it reaches the agent as it is.</summary>
    public Dictionary<string, object?>? Others { get; init; }

    /// <summary>Reads and checks the parameters of a query.</summary>
    /// <exception cref="ProblemException">One of them is not allowed.</exception>
    public static GenerationParameters Read(JsonElement? parameters)
    {
        if (parameters is not { } given)
        {
            return None;
        }

        if (given.ValueKind != JsonValueKind.Object)
        {
            throw Invalid("parameters", "must be a JSON object");
        }

        try
        {
            var read = None;
            foreach (var parameter in given.EnumerateObject())
            {
                if (parameter.Value.ValueKind != JsonValueKind.Null)
                {
                    read = Read(read, parameter);
                }
            }

            return read;
        }
        catch (InvalidOperationException)
        {
            throw Invalid("parameters", "must be valid Unicode");
        }
    }

    private static GenerationParameters Read(GenerationParameters read, JsonProperty parameter) => parameter.Name switch
    {
        "temperature" => read with { Temperature = Number(parameter, 0, 2) },
        "top_p" => read with { TopP = Number(parameter, 0, 1) },
        "max_output_tokens" => read with { MaxOutputTokens = WholeNumber(parameter, 1, int.MaxValue) },
        "frequency_penalty" => read with { FrequencyPenalty = Number(parameter, -2, 2) },
        "presence_penalty" => read with { PresencePenalty = Number(parameter, -2, 2) },
        "seed" => read with { Seed = parameter.Value.ValueKind == JsonValueKind.Number && parameter.Value.TryGetInt64(out var seed) ? seed : throw Invalid("parameters.seed", "must be a whole number") },
        "stop" => read with { Stop = Texts(parameter) },
        "history_turns" => read with { HistoryTurns = WholeNumber(parameter, 0, 1000) },
        _ => read with { Others = With(read.Others, parameter) },
    };

    private static Dictionary<string, object?> With(Dictionary<string, object?>? others, JsonProperty parameter)
    {
        others ??= new Dictionary<string, object?>(StringComparer.Ordinal);
        others[parameter.Name] = parameter.Value.ValueKind == JsonValueKind.String ? parameter.Value.GetString() : parameter.Value;
        return others.Count <= MostOthers ? others : throw Invalid("parameters", $"must have at most {MostOthers} names of its own");
    }

    private static float Number(JsonProperty parameter, float least, float most) =>
        parameter.Value.ValueKind == JsonValueKind.Number && parameter.Value.TryGetSingle(out var number) && number >= least && number <= most
            ? number
            : throw Invalid($"parameters.{parameter.Name}", $"must be a number from {least} to {most}");

    private static int WholeNumber(JsonProperty parameter, int least, int most) =>
        parameter.Value.ValueKind == JsonValueKind.Number && parameter.Value.TryGetInt32(out var number) && number >= least && number <= most
            ? number
            : throw Invalid($"parameters.{parameter.Name}", $"must be a whole number from {least} to {most}");

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

    private static ProblemException Invalid(string field, string rule) => new(Problem.InvalidField(field, rule));
}

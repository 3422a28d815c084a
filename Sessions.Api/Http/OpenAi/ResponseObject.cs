using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine;

namespace Sessions.Api.Http.OpenAi;

/// <summary>
/// Makes the Response of a turn. What is kept of it are all fields but <c>id</c>, <c>output</c> and <c>conversation</c>, which a turn has
/// by where it stands; so what creating gave, what <c>response.completed</c> held, and what a GET gives are made of the same bytes by the
/// same code.
/// </summary>
/// <param name="request">What was asked for: of it what is told again (<see cref="ResponseRequest.Echoed"/>).</param>
/// <param name="agentType">The agent that answers: the model, where the request names none.</param>
internal sealed class ResponseObject(ResponseRequest request, string agentType) : ResponseMaker
{
    private const string Completed = "completed";

    public override long Bytes => request.Bytes;

    /// <summary>The Response as it is while the turn runs.</summary>
    public ReadOnlyMemory<byte> InProgress(DateTimeOffset startedAt) => Json.Write((startedAt, this), static (json, x) =>
        x.Item2.Write(json, "in_progress", x.startedAt, completedAt: null, incompleteReason: null, error: null, usage: null));

    public override ReadOnlyMemory<byte> Make(RunOutcome outcome)
    {
        var (status, error) = outcome.Answer is { } answer
            ? (answer.IncompleteReason is null ? Completed : "incomplete", null)
            : ("failed", outcome.Error);
        return Json.Write((This: this, outcome, status, error), static (json, x) => x.This.Write(
            json,
            x.status,
            x.outcome.StartedAt,
            x.status == Completed ? x.outcome.EndedAt : null,
            x.outcome.Answer?.IncompleteReason,
            x.error,
            x.outcome.Answer?.Usage));
    }

    /// <summary>The Response of a turn that was kept without one (<c>store: false</c>), where the same request is answered once
    /// more.</summary>
    public ReadOnlyMemory<byte> Of(Turn turn) => Json.Write((This: this, turn), static (json, x) =>
    {
        var isCompleted = x.turn.Status == TurnStatus.Completed;
        x.This.Write(
            json,
            isCompleted ? Completed : "incomplete",
            x.turn.CreatedAt - x.turn.ExecutionTime,
            isCompleted ? x.turn.CreatedAt : null,
            x.turn.IncompleteReason,
            error: null,
            x.turn.Usage);
    });

    /// <summary>A turn's own error, in the words of the request.</summary>
    public OpenAiError ErrorOf(Error error) => request.ErrorOf(error);

    /// <summary>A Response that is kept, as it was while its turn ran.</summary>
    public static ReadOnlyMemory<byte> Begun(ReadOnlyMemory<byte> kept) => Json.Write(kept, static (json, kept) =>
    {
        json.WriteStartObject();
        foreach (var property in JsonElement.Parse(kept.Span).EnumerateObject())
        {
            if (property.NameEquals("status"))
            {
                json.WriteString("status"u8, "in_progress"u8);
            }
            else if (property.Name is "completed_at" or "error" or "incomplete_details" or "usage")
            {
                json.WriteNull(property.Name);
            }
            else
            {
                property.WriteTo(json);
            }
        }

        json.WriteEndObject();
    });

    /// <summary>A whole Response: its id, what is kept of it, its output, and its conversation if it has one.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="kept">What is kept of it.</param>
    /// <param name="output">The items of its output.</param>
    /// <param name="conversation">The key of its conversation, where it was made in one.</param>
    public static ReadOnlyMemory<byte> Compose(ResponseId id, ReadOnlyMemory<byte> kept, IReadOnlyList<TurnItem> output, Guid? conversation)
    {
        var rest = Json.Write((output, conversation), static (json, x) =>
        {
            json.WriteStartObject();
            json.WriteStartArray("output"u8);
            foreach (var item in x.output)
            {
                item.Write(json);
            }

            json.WriteEndArray();
            if (x.conversation is { } key)
            {
                json.WriteStartObject("conversation"u8);
                json.WriteString("id"u8, ConversationId.Of(key));
                json.WriteEndObject();
            }

            json.WriteEndObject();
        });
        return (byte[])[.. ItemJson.WithId(id.ToString(), kept.Span)[..^1], (byte)',', .. rest.Span[1..]];
    }

    /// <summary>The Response of a turn.</summary>
    /// <param name="sessionKey">The key of its session.</param>
    /// <param name="isConversation">Whether that is a conversation.</param>
    /// <param name="turn">The turn.</param>
    public static ReadOnlyMemory<byte> Compose(Guid sessionKey, bool isConversation, Turn turn) => Compose(
        new ResponseId(sessionKey, turn.Nonce),
        turn.Response,
        ItemJson.Of(sessionKey, turn.Nonce, ItemSide.Output, turn.Output),
        isConversation ? sessionKey : null);

    private void Write(
        Utf8JsonWriter json,
        string status,
        DateTimeOffset startedAt,
        DateTimeOffset? completedAt,
        string? incompleteReason,
        Error? error,
        TokenUsage? usage)
    {
        var options = request.Options;
        json.WriteStartObject();
        json.WriteString("object"u8, "response"u8);
        json.WriteNumber("created_at"u8, startedAt.ToUnixTimeSeconds());
        WriteNumber(json, "completed_at", completedAt?.ToUnixTimeSeconds());
        json.WriteString("status"u8, status);
        json.WriteBoolean("background"u8, false);
        WriteError(json, error);
        WriteIncompleteDetails(json, incompleteReason);
        json.WriteString("instructions"u8, options.Instructions);
        WriteNumber(json, "max_output_tokens", options.MaxOutputTokens);
        WriteNumber(json, "max_tool_calls", options.MaxToolCalls);
        json.WriteString("model"u8, request.Model ?? agentType);
        json.WriteBoolean("parallel_tool_calls"u8, options.ParallelToolCalls ?? true);
        json.WriteString("previous_response_id"u8, request.PreviousResponseId);
        json.WriteStartObject("reasoning"u8);
        json.WriteString("effort"u8, options.ReasoningEffort);
        json.WriteNull("summary"u8);
        json.WriteEndObject();
        json.WriteString("service_tier"u8, "default"u8);
        json.WriteBoolean("store"u8, request.Store);
        WriteAsSent(json, "temperature");
        WriteText(json);
        WriteTools(json);
        json.WriteNumber("top_logprobs"u8, 0);
        WriteAsSent(json, "top_p");
        json.WriteString("truncation"u8, request.Truncates ? "auto"u8 : "disabled"u8);
        WriteUsage(json, usage);
        Echo(json, "user", isAlways: true);
        Echo(json, "safety_identifier", isAlways: false);
        Echo(json, "prompt_cache_key", isAlways: false);
        json.WritePropertyName("metadata"u8);
        OpenAiMetadata.Write(json, request.Metadata);
        json.WriteEndObject();
    }

    private static void WriteError(Utf8JsonWriter json, Error? error)
    {
        if (error is null)
        {
            json.WriteNull("error"u8);
            return;
        }

        json.WriteStartObject("error"u8);
        json.WriteString("code"u8, "server_error"u8);
        json.WriteString("message"u8, error.Message);
        json.WriteEndObject();
    }

    // Beside OpenAI's two reasons there is 'cancelled': an answer that was stopped, of which something had been told.
    private static void WriteIncompleteDetails(Utf8JsonWriter json, string? reason)
    {
        if (reason is null)
        {
            json.WriteNull("incomplete_details"u8);
            return;
        }

        json.WriteStartObject("incomplete_details"u8);
        json.WriteString("reason"u8, reason);
        json.WriteEndObject();
    }

    private void WriteText(Utf8JsonWriter json)
    {
        json.WriteStartObject("text"u8);
        json.WritePropertyName("format"u8);
        if (request.Body.TryGetProperty("text", out var text) && text.ValueKind == JsonValueKind.Object
            && text.TryGetProperty("format", out var format)
            && format.ValueKind == JsonValueKind.Object)
        {
            format.WriteTo(json);
        }
        else
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "text"u8);
            json.WriteEndObject();
        }

        if (request.Options.Verbosity is { } verbosity)
        {
            json.WriteString("verbosity"u8, verbosity);
        }

        json.WriteEndObject();
    }

    private void WriteTools(Utf8JsonWriter json)
    {
        json.WritePropertyName("tool_choice"u8);
        if (request.Body.TryGetProperty("tool_choice", out var choice) && choice.ValueKind != JsonValueKind.Null)
        {
            choice.WriteTo(json);
        }
        else
        {
            json.WriteStringValue("auto"u8);
        }

        json.WriteStartArray("tools"u8);
        foreach (var tool in request.Options.Tools)
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "function"u8);
            json.WriteString("name"u8, tool.Name);
            json.WriteString("description"u8, tool.Description);
            json.WritePropertyName("parameters"u8);
            if (tool.Parameters is { } parameters)
            {
                parameters.WriteTo(json);
            }
            else
            {
                json.WriteNullValue();
            }

            json.WritePropertyName("strict"u8);
            if (tool.Strict is { } strict)
            {
                json.WriteBooleanValue(strict);
            }
            else
            {
                json.WriteNullValue();
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteUsage(Utf8JsonWriter json, TokenUsage? usage)
    {
        if (usage is null or { InputTokens: null, OutputTokens: null })
        {
            json.WriteNull("usage"u8);
            return;
        }

        var (input, output, cached, reasoning) = usage;
        json.WriteStartObject("usage"u8);
        json.WriteNumber("input_tokens"u8, input ?? 0);
        json.WriteStartObject("input_tokens_details"u8);
        json.WriteNumber("cached_tokens"u8, cached ?? 0);
        json.WriteEndObject();
        json.WriteNumber("output_tokens"u8, output ?? 0);
        json.WriteStartObject("output_tokens_details"u8);
        json.WriteNumber("reasoning_tokens"u8, reasoning ?? 0);
        json.WriteEndObject();
        json.WriteNumber("total_tokens"u8, (input ?? 0) + (output ?? 0));
        json.WriteEndObject();
    }

    private void Echo(Utf8JsonWriter json, string name, bool isAlways)
    {
        if (request.Body.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String)
        {
            json.WriteString(name, value.GetString());
        }
        else if (isAlways)
        {
            json.WriteNull(name);
        }
    }

    private void WriteAsSent(Utf8JsonWriter json, string name)
    {
        json.WritePropertyName(name);
        if (request.Body.TryGetProperty(name, out var value))
        {
            value.WriteTo(json);
        }
        else
        {
            json.WriteNullValue();
        }
    }

    private static void WriteNumber(Utf8JsonWriter json, string name, long? value)
    {
        if (value is { } number)
        {
            json.WriteNumber(name, number);
        }
        else
        {
            json.WriteNull(name);
        }
    }
}

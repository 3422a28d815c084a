using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.Extensions.AI;

namespace Sessions.Api.Engine.Agents.OpenAi;

/// <summary>Writes what endpoints are asked that speak chat completions: schemas, arguments and parameters as they were given.</summary>
internal static class ChatCompletionsRequest
{
    private static readonly JsonWriterOptions Written = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        SkipValidation = true,
    };

    /// <summary>Writes a request.</summary>
    public static ReadOnlyMemory<byte> Write(string model, IEnumerable<ChatMessage> messages, ChatOptions? options, bool isStreamed)
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        using (var json = new Utf8JsonWriter(buffer, Written))
        {
            json.WriteStartObject();
            json.WriteString("model"u8, model);
            json.WriteStartArray("messages"u8);
            foreach (var message in messages)
            {
                WriteMessage(json, message);
            }

            json.WriteEndArray();
            var asked = StandardOptions.Asked(options);
            if (isStreamed)
            {
                json.WriteBoolean("stream"u8, true);
                if (asked.Others?.ContainsKey("stream_options") != true)
                {
                    json.WriteStartObject("stream_options"u8);
                    json.WriteBoolean("include_usage"u8, true);
                    json.WriteEndObject();
                }
            }

            if (options is not null)
            {
                WriteOptions(json, options);
                WriteTools(json, options);
            }

            WriteAsked(json, asked);
            json.WriteEndObject();
        }

        return buffer.WrittenMemory;
    }

    private static void WriteMessage(Utf8JsonWriter json, ChatMessage message)
    {
        if (message.Role == ChatRole.Tool)
        {
            foreach (var result in message.Contents.OfType<FunctionResultContent>())
            {
                json.WriteStartObject();
                json.WriteString("role"u8, "tool"u8);
                json.WriteString("tool_call_id"u8, result.CallId);
                json.WriteString("content"u8, result.Result as string
                    ?? JsonSerializer.Serialize(result.Result, AIJsonUtilities.DefaultOptions.GetTypeInfo(typeof(object))));
                json.WriteEndObject();
            }

            return;
        }

        json.WriteStartObject();
        json.WriteString("role"u8, message.Role.Value);
        if (message.Role == ChatRole.Assistant)
        {
            WriteAssistant(json, message.Contents);
        }
        else
        {
            WriteContent(json, message.Contents);
        }

        json.WriteEndObject();
    }

    // Chat completions have no place for thoughts of before.
    private static void WriteAssistant(Utf8JsonWriter json, IList<AIContent> contents)
    {
        var calls = contents.OfType<FunctionCallContent>().ToList();
        var refusal = string.Concat(contents.OfType<ErrorContent>().Where(error => error.ErrorCode == OutputBuilder.Refusal)
            .Select(error => error.Message));
        List<AIContent> texts = [.. contents.OfType<TextContent>()];
        if (texts.Count > 0 || (calls.Count == 0 && refusal.Length == 0))
        {
            WriteContent(json, texts);
        }

        if (refusal.Length > 0)
        {
            json.WriteString("refusal"u8, refusal);
        }

        if (calls.Count == 0)
        {
            return;
        }

        json.WriteStartArray("tool_calls"u8);
        foreach (var call in calls)
        {
            json.WriteStartObject();
            json.WriteString("id"u8, call.CallId);
            json.WriteString("type"u8, "function"u8);
            json.WriteStartObject("function"u8);
            json.WriteString("name"u8, call.Name);
            json.WriteString("arguments"u8,
                call.RawRepresentation is CallArguments arguments ? arguments.Text : CallJson.Write(call.Arguments));
            json.WriteEndObject();
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    // One text stands alone: there are servers that know no parts.
    private static void WriteContent(Utf8JsonWriter json, IList<AIContent> contents)
    {
        if (contents is [] or [TextContent])
        {
            json.WriteString("content"u8, contents is [TextContent single] ? single.Text : "");
            return;
        }

        json.WriteStartArray("content"u8);
        foreach (var content in contents)
        {
            switch (content)
            {
                case TextContent text:
                    json.WriteStartObject();
                    json.WriteString("type"u8, "text"u8);
                    json.WriteString("text"u8, text.Text);
                    json.WriteEndObject();
                    break;
                case UriContent image:
                    WriteImage(json, image.Uri.OriginalString, image);
                    break;
                case DataContent image when image.HasTopLevelMediaType("image"):
                    WriteImage(json, image.Uri, image);
                    break;
                case DataContent file:
                    json.WriteStartObject();
                    json.WriteString("type"u8, "file"u8);
                    json.WriteStartObject("file"u8);
                    json.WriteString("filename"u8, file.Name ?? "file");
                    json.WriteString("file_data"u8, file.Uri);
                    json.WriteEndObject();
                    json.WriteEndObject();
                    break;
            }
        }

        json.WriteEndArray();
    }

    private static void WriteImage(Utf8JsonWriter json, string url, AIContent image)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, "image_url"u8);
        json.WriteStartObject("image_url"u8);
        json.WriteString("url"u8, url);
        if (image.AdditionalProperties?.TryGetValue("detail", out var detail) == true && detail is string level)
        {
            json.WriteString("detail"u8, level);
        }

        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteOptions(Utf8JsonWriter json, ChatOptions options)
    {
        Write("temperature"u8, options.Temperature);
        Write("top_p"u8, options.TopP);
        Write("frequency_penalty"u8, options.FrequencyPenalty);
        Write("presence_penalty"u8, options.PresencePenalty);
        if (options.MaxOutputTokens is { } tokens)
        {
            json.WriteNumber("max_completion_tokens"u8, tokens);
        }

        if (options.Seed is { } seed)
        {
            json.WriteNumber("seed"u8, seed);
        }

        if (options.StopSequences is { Count: > 0 } stop)
        {
            json.WriteStartArray("stop"u8);
            foreach (var sequence in stop)
            {
                json.WriteStringValue(sequence);
            }

            json.WriteEndArray();
        }

        void Write(ReadOnlySpan<byte> name, float? value)
        {
            if (value is { } number)
            {
                json.WriteNumber(name, number);
            }
        }
    }

    private static void WriteTools(Utf8JsonWriter json, ChatOptions options)
    {
        var tools = options.Tools?.OfType<AIFunctionDeclaration>().ToList();
        if (tools is not { Count: > 0 })
        {
            return;
        }

        json.WriteStartArray("tools"u8);
        foreach (var tool in tools)
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "function"u8);
            json.WriteStartObject("function"u8);
            json.WriteString("name"u8, tool.Name);
            if (tool.Description is { Length: > 0 } description)
            {
                json.WriteString("description"u8, description);
            }

            if (tool is not ClientFunction { HasParameters: false })
            {
                json.WritePropertyName("parameters"u8);
                tool.JsonSchema.WriteTo(json);
            }

            if (tool is ClientFunction { Strict: { } strict })
            {
                json.WriteBoolean("strict"u8, strict);
            }

            json.WriteEndObject();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        if (options.AllowMultipleToolCalls is { } parallel)
        {
            json.WriteBoolean("parallel_tool_calls"u8, parallel);
        }

        switch (options.ToolMode)
        {
            case NoneChatToolMode:
                json.WriteString("tool_choice"u8, "none"u8);
                break;
            case RequiredChatToolMode { RequiredFunctionName: { } name }:
                json.WriteStartObject("tool_choice"u8);
                json.WriteString("type"u8, "function"u8);
                json.WriteStartObject("function"u8);
                json.WriteString("name"u8, name);
                json.WriteEndObject();
                json.WriteEndObject();
                break;
            case RequiredChatToolMode:
                json.WriteString("tool_choice"u8, "required"u8);
                break;
            case AutoChatToolMode:
                json.WriteString("tool_choice"u8, "auto"u8);
                break;
        }
    }

    private static void WriteAsked(Utf8JsonWriter json, AnswerOptions asked)
    {
        if (asked.ReasoningEffort is { } effort)
        {
            json.WriteString("reasoning_effort"u8, effort);
        }

        if (asked.Verbosity is { } verbosity)
        {
            json.WriteString("verbosity"u8, verbosity);
        }

        if (asked.Format is { } format)
        {
            WriteFormat(json, format);
        }

        foreach (var (name, value) in asked.Others ?? System.Collections.Frozen.FrozenDictionary<string, JsonElement>.Empty)
        {
            json.WritePropertyName(name);
            value.WriteTo(json);
        }
    }

    private static void WriteFormat(Utf8JsonWriter json, ResponseFormat format)
    {
        json.WriteStartObject("response_format"u8);
        json.WriteString("type"u8, format.Type);
        if (format.Type == "json_schema")
        {
            json.WriteStartObject("json_schema"u8);
            WriteSchema(json, format);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    /// <summary>Writes the fields of a schema that an answer is to hold to: Responses have them, too.</summary>
    public static void WriteSchema(Utf8JsonWriter json, ResponseFormat format)
    {
        json.WriteString("name"u8, format.Name ?? "answer");
        if (format.Description is not null)
        {
            json.WriteString("description"u8, format.Description);
        }

        if (format.Schema is { } schema)
        {
            json.WritePropertyName("schema"u8);
            schema.WriteTo(json);
        }

        if (format.Strict is { } strict)
        {
            json.WriteBoolean("strict"u8, strict);
        }
    }
}

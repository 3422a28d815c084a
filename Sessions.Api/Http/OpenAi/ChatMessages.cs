using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using Sessions.Api.Domain;

namespace Sessions.Api.Http.OpenAi;

/// <summary>Messages of chat completions as items.</summary>
internal static partial class ChatMessages
{
    /// <summary>Reads messages.</summary>
    /// <returns>The items of each message, with its role, in order.</returns>
    /// <exception cref="OpenAiException">Something in them is not allowed.</exception>
    public static List<(string Role, List<ReadOnlyMemory<byte>> Items)> Read(JsonElement messages)
    {
        List<(string Role, List<ReadOnlyMemory<byte>> Items)> read = [];
        foreach (var message in messages.EnumerateArray())
        {
            var name = $"messages[{read.Count}]";
            var fields = new Fields(message, $"{name}.");
            var role = fields.Word("role", "system", "developer", "user", "assistant", "tool")
                ?? throw OpenAiException.Missing($"{name}.role");
            read.Add((role, role == "tool" ? [ReadOutput(fields, name)] : ReadMessage(fields, role, name)));
        }

        return read;
    }

    /// <summary>An error in the words of chat completions: of items a client of these knows nothing.</summary>
    /// <param name="error">What is wrong with the items.</param>
    /// <param name="messages">The messages that they were made of.</param>
    /// <param name="first">The first of those.</param>
    public static OpenAiError ErrorOf(Error error, List<(string Role, List<ReadOnlyMemory<byte>> Items)> messages, int first)
    {
        var told = OpenAiError.From(error);
        if (told.Param is null)
        {
            return told;
        }

        if (OptionField.Match(told.Param) is { Success: true } option)
        {
            return Renamed(told, option.Groups[1].Value);
        }

        if (ItemField.Match(told.Param) is not { Success: true } field)
        {
            return told;
        }

        var name = "messages";
        if (int.TryParse(field.Groups[1].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture, out var item))
        {
            while (first < messages.Count - 1 && item >= messages[first].Items.Count)
            {
                item -= messages[first++].Items.Count;
            }

            var rest = field.Groups[2].Value;
            name = $"messages[{first}]"
                + (rest.StartsWith(".output", StringComparison.Ordinal) ? $".content{rest[".output".Length..]}" : rest);
        }

        return Renamed(told, name);
    }

    private static OpenAiError Renamed(OpenAiError told, string name) => told with
    {
        Param = name,
        Message = told.Message.StartsWith($"{told.Param}:", StringComparison.Ordinal)
            ? name + told.Message[told.Param!.Length..]
            : told.Message,
    };

    // Elsewhere they stand one level deeper.
    [GeneratedRegex(@"^(?:parameters|text)\.(\w+)$")]
    private static partial Regex OptionField { get; }

    [GeneratedRegex(@"^input(?:\[(\d+)\](.*))?$")]
    private static partial Regex ItemField { get; }

    private static List<ReadOnlyMemory<byte>> ReadMessage(Fields fields, string role, string name)
    {
        List<ReadOnlyMemory<byte>> items = [];
        var (content, refusal) = (fields.Any("content"), role == "assistant" ? fields.Text("refusal") : null);
        if (content is not null || refusal is not null)
        {
            items.Add(Json.Write((content, refusal, role, name), static (json, x) =>
            {
                json.WriteStartObject();
                json.WriteString("type"u8, "message"u8);
                json.WriteString("role"u8, x.role);
                json.WriteString("status"u8, "completed"u8);
                json.WriteStartArray("content"u8);
                if (x.content is { } content)
                {
                    WriteParts(json, content, x.role == "assistant" ? "output_text" : "input_text", $"{x.name}.content");
                }

                // As an answer that is one tells it, beside a content that is null.
                if (x.refusal is not null)
                {
                    WriteRefusal(json, x.refusal);
                }

                json.WriteEndArray();
                json.WriteEndObject();
            }));
        }
        else if (fields.Array("tool_calls") is not { } calls || calls.GetArrayLength() == 0)
        {
            throw OpenAiException.Missing($"{name}.content");
        }

        var index = 0;
        foreach (var call in fields.Array("tool_calls")?.EnumerateArray() ?? default)
        {
            items.Add(ReadCall(new Fields(call, $"{name}.tool_calls[{index}]."), $"{name}.tool_calls[{index++}]"));
        }

        return items;
    }

    private static ReadOnlyMemory<byte> ReadCall(Fields call, string name)
    {
        var id = call.Name("id");
        var function = new Fields(call.RequiredObject("function"), $"{name}.function.");
        var (called, arguments) = (function.Name("name"), function.Text("arguments") ?? "{}");
        return Json.Write((id, called, arguments), static (json, x) =>
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "function_call"u8);
            json.WriteString("status"u8, "completed"u8);
            json.WriteString("call_id"u8, x.id);
            json.WriteString("name"u8, x.called);
            json.WriteString("arguments"u8, x.arguments);
            json.WriteEndObject();
        });
    }

    private static ReadOnlyMemory<byte> ReadOutput(Fields fields, string name)
    {
        var id = fields.Name("tool_call_id");
        var content = fields.Required("content");
        return Json.Write((id, content, name), static (json, x) =>
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "function_call_output"u8);
            json.WriteString("status"u8, "completed"u8);
            json.WriteString("call_id"u8, x.id);
            json.WritePropertyName("output"u8);
            if (x.content.ValueKind == JsonValueKind.String)
            {
                json.WriteStringValue(x.content.GetString());
            }
            else
            {
                json.WriteStartArray();
                WriteParts(json, x.content, "input_text", $"{x.name}.content");
                json.WriteEndArray();
            }

            json.WriteEndObject();
        });
    }

    private static void WriteParts(Utf8JsonWriter json, JsonElement content, string textType, string name)
    {
        if (content.ValueKind == JsonValueKind.String)
        {
            WriteText(json, textType, content.GetString()!);
        }
        else if (content.ValueKind == JsonValueKind.Array)
        {
            var index = 0;
            foreach (var part in content.EnumerateArray())
            {
                WritePart(json, part, textType, $"{name}[{index++}]");
            }
        }
        else
        {
            throw new OpenAiException(name, $"Invalid type for '{name}': expected a text or an array of parts.", "invalid_type");
        }
    }

    private static void WritePart(Utf8JsonWriter json, JsonElement part, string textType, string name)
    {
        var fields = new Fields(part, $"{name}.");
        switch (fields.Text("type"))
        {
            case "text":
                WriteText(json, textType, fields.RequiredText("text"));
                break;
            case "refusal":
                WriteRefusal(json, fields.RequiredText("refusal"));
                break;
            case "image_url":
                var image = new Fields(fields.RequiredObject("image_url"), $"{name}.image_url.");
                json.WriteStartObject();
                json.WriteString("type"u8, "input_image"u8);
                json.WriteString("image_url"u8, image.RequiredText("url"));
                json.WriteString("detail"u8, image.Text("detail") ?? "auto");
                json.WriteEndObject();
                break;
            case "file":
                var file = new Fields(fields.RequiredObject("file"), $"{name}.file.");
                file.Refuse("file_id", "This server keeps no files: send the content itself.");
                json.WriteStartObject();
                json.WriteString("type"u8, "input_file"u8);
                json.WriteString("filename"u8, file.Text("filename") ?? "file");
                json.WriteString("file_data"u8, file.RequiredText("file_data"));
                json.WriteEndObject();
                break;
            case var other:
                throw new OpenAiException(
                    $"{name}.type",
                    $"Invalid value: '{Error.Shorten(other ?? "")}'. Supported values are: text, refusal, image_url, file.");
        }
    }

    private static void WriteRefusal(Utf8JsonWriter json, string refusal)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, "refusal"u8);
        json.WriteString("refusal"u8, refusal);
        json.WriteEndObject();
    }

    private static void WriteText(Utf8JsonWriter json, string type, string text)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, type);
        json.WriteString("text"u8, text);
        if (type == "output_text")
        {
            json.WriteStartArray("annotations"u8);
            json.WriteEndArray();
            json.WriteStartArray("logprobs"u8);
            json.WriteEndArray();
        }

        json.WriteEndObject();
    }
}

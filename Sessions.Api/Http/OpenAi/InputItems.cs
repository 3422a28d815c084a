using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Unicode;
using Sessions.Api.Domain;

namespace Sessions.Api.Http.OpenAi;

/// <summary>An item as a client sent it, checked and in the form in which it is kept.</summary>
/// <param name="Type">Its type; <c>item_reference</c> stands for a stored item.</param>
/// <param name="Id">The id that it came with, if any: it refers to a stored item, or says nothing.</param>
/// <param name="Raw">The item in JSON without its id.</param>
internal readonly record struct InputItem(string Type, string? Id, ReadOnlyMemory<byte> Raw)
{
    /// <summary>The type of an item that stands for a stored one.</summary>
    public const string Reference = "item_reference";
}

/// <summary>Reads items that clients send: what is not known is refused by name, and what is known is kept as it came, in order.</summary>
internal static class InputItems
{
    private const string Known = "message, function_call, function_call_output, reasoning, item_reference, mcp_call, mcp_list_tools";

    /// <summary>Reads an array of items.</summary>
    /// <param name="items">The array.</param>
    /// <param name="param">How errors name it: <c>input</c> or <c>items</c>.</param>
    /// <exception cref="OpenAiException">Something in it is not allowed.</exception>
    public static List<InputItem> Read(JsonElement items, string param)
    {
        List<InputItem> read = new(items.GetArrayLength());
        foreach (var item in items.EnumerateArray())
        {
            var name = $"{param}[{read.Count}]";
            if (item.ValueKind != JsonValueKind.Object)
            {
                throw new OpenAiException(name, $"Invalid type for '{name}': expected an object.", "invalid_type");
            }

            CheckUnicode(item, name);
            read.Add(ReadItem(item, name));
        }

        return read;
    }

    /// <summary>One message of the user's, out of a text and parts.</summary>
    /// <param name="text">The text that comes first, if any.</param>
    /// <param name="parts">The parts.</param>
    /// <exception cref="OpenAiException">Something in them is not allowed.</exception>
    public static ReadOnlyMemory<byte> OfParts(Utf8Text? text, JsonElement parts)
    {
        if (parts.ValueKind != JsonValueKind.Array || (parts.GetArrayLength() == 0 && text is null))
        {
            throw new OpenAiException(
                "input", "Invalid type for 'input': expected a list of parts: input_text, input_image, input_file.",
                "invalid_type");
        }

        CheckUnicode(parts, "input");
        CheckParts(parts, "input", "input_text", "input_image", "input_file");
        return Json.Write((text, parts), static (json, x) =>
        {
            json.WriteStartArray();
            json.WriteStartObject();
            json.WriteString("type"u8, "message"u8);
            json.WriteString("role"u8, "user"u8);
            json.WriteString("status"u8, "completed"u8);
            json.WriteStartArray("content"u8);
            if (x.text is { } first)
            {
                json.WriteStartObject();
                json.WriteString("type"u8, "input_text"u8);
                json.WriteString("text"u8, first.Span);
                json.WriteEndObject();
            }

            foreach (var part in x.parts.EnumerateArray())
            {
                part.WriteTo(json);
            }

            json.WriteEndArray();
            json.WriteEndObject();
            json.WriteEndArray();
        });
    }

    private static InputItem ReadItem(JsonElement item, string name)
    {
        var id = Text(item, "id", name, isRequired: false);
        var type = Text(item, "type", name, isRequired: false)
            ?? (Has(item, "role") ? "message" : id is not null ? InputItem.Reference : throw OpenAiException.Missing($"{name}.type"));
        switch (type)
        {
            case "message":
                CheckMessage(item, name);
                break;
            case "function_call":
                Name(item, "call_id", name);
                Name(item, "name", name);
                Text(item, "arguments", name);
                break;
            case "function_call_output":
                Name(item, "call_id", name);
                CheckOutput(item, name);
                break;
            case "reasoning":
                CheckTexts(item, "summary", name, "summary_text");
                CheckTexts(item, "content", name, "reasoning_text");
                Text(item, "encrypted_content", name, isRequired: false);
                break;
            case "mcp_call":
                Name(item, "server_label", name);
                Name(item, "name", name);
                Text(item, "arguments", name);
                Text(item, "output", name, isRequired: false);
                Text(item, "approval_request_id", name, isRequired: false);
                break;
            case "mcp_list_tools":
                Name(item, "server_label", name);
                CheckTools(item, name);
                break;
            case InputItem.Reference:
                return new InputItem(type, id ?? throw OpenAiException.Missing($"{name}.id"), default);
            default:
                throw new OpenAiException($"{name}.type", $"Invalid value: '{Error.Shorten(type)}'. Supported values are: {Known}.");
        }

        return new InputItem(type, id, Json.Write((item, type), static (json, x) => Write(json, x.item, x.type)));
    }

    private static void CheckMessage(JsonElement item, string name)
    {
        if (Text(item, "role", name) is not ("user" or "assistant" or "system" or "developer"))
        {
            throw new OpenAiException(
                $"{name}.role", $"Invalid value for '{name}.role'. Supported values are: user, assistant, system, developer.");
        }

        if (!Has(item, "content", out var content))
        {
            throw OpenAiException.Missing($"{name}.content");
        }

        if (content.ValueKind == JsonValueKind.Array)
        {
            CheckParts(content, $"{name}.content", "input_text", "output_text", "refusal", "input_image", "input_file");
        }
        else if (content.ValueKind != JsonValueKind.String)
        {
            throw new OpenAiException(
                $"{name}.content", $"Invalid type for '{name}.content': expected a text or an array of parts.",
                "invalid_type");
        }
    }

    private static void CheckOutput(JsonElement item, string name)
    {
        if (!Has(item, "output", out var output))
        {
            throw OpenAiException.Missing($"{name}.output");
        }

        if (output.ValueKind == JsonValueKind.Array)
        {
            CheckParts(output, $"{name}.output", "input_text", "input_image", "input_file");
        }
        else if (output.ValueKind != JsonValueKind.String)
        {
            throw new OpenAiException(
                $"{name}.output", $"Invalid type for '{name}.output': expected a text or an array of parts.",
                "invalid_type");
        }
    }

    private static void CheckParts(JsonElement parts, string name, params ReadOnlySpan<string> allowed)
    {
        var index = 0;
        foreach (var part in parts.EnumerateArray())
        {
            var at = $"{name}[{index++}]";
            if (part.ValueKind != JsonValueKind.Object)
            {
                throw new OpenAiException(at, $"Invalid type for '{at}': expected an object.", "invalid_type");
            }

            var type = Text(part, "type", at)!;
            if (!allowed.Contains(type))
            {
                throw new OpenAiException(
                    $"{at}.type",
                    $"Invalid value: '{Error.Shorten(type)}'. Supported values are: {string.Join(", ", allowed.ToArray())}.");
            }

            switch (type)
            {
                case "input_text" or "output_text" or "summary_text" or "reasoning_text":
                    Text(part, "text", at);
                    break;
                case "refusal":
                    Text(part, "refusal", at);
                    break;
                case "input_image":
                    RefuseFileId(part, at);
                    Text(part, "image_url", at);
                    break;
                case "input_file":
                    RefuseFileId(part, at);
                    if (Text(part, "file_data", at, isRequired: false) is null && Text(part, "file_url", at, isRequired: false) is null)
                    {
                        throw OpenAiException.Missing($"{at}.file_data");
                    }

                    break;
            }
        }
    }

    private static void RefuseFileId(JsonElement part, string name)
    {
        if (Has(part, "file_id"))
        {
            throw new OpenAiException(
                $"{name}.file_id",
                $"Unsupported parameter: '{name}.file_id'. This server keeps no files: send the content itself.",
                "unsupported_parameter");
        }
    }

    private static void CheckTexts(JsonElement item, string property, string name, string type)
    {
        if (Has(item, property, out var texts))
        {
            CheckParts(RequireArray(texts, $"{name}.{property}"), $"{name}.{property}", type);
        }
    }

    private static void CheckTools(JsonElement item, string name)
    {
        var index = 0;
        foreach (var tool in Has(item, "tools", out var tools)
            ? RequireArray(tools, $"{name}.tools").EnumerateArray()
            : throw OpenAiException.Missing($"{name}.tools"))
        {
            var at = $"{name}.tools[{index++}]";
            Name(
                tool.ValueKind == JsonValueKind.Object ? tool
                    : throw new OpenAiException(at, $"Invalid type for '{at}': expected an object.", "invalid_type"),
                "name",
                at);
        }
    }

    private static JsonElement RequireArray(JsonElement value, string name) => value.ValueKind == JsonValueKind.Array ? value
        : throw new OpenAiException(name, $"Invalid type for '{name}': expected an array.", "invalid_type");

    /// <summary>Refuses bytes that are no UTF-8, and half a surrogate pair: what passes can be read.</summary>
    /// <exception cref="OpenAiException">There is such a thing.</exception>
    public static void CheckUnicode(JsonElement value, string? name)
    {
        var raw = JsonMarshal.GetRawUtf8Value(value);
        if (Utf8.IsValid(raw) && raw.IndexOf("\\ud"u8) < 0 && raw.IndexOf("\\uD"u8) < 0)
        {
            return;
        }

        try
        {
            ReadAll(value);
        }
        catch (InvalidOperationException)
        {
            throw new OpenAiException(
                name,
                $"Invalid {(name is null ? "body" : $"'{name}'")}: "
                + "texts must be valid Unicode, in UTF-8 and without half surrogate pairs.");
        }
    }

    private static void ReadAll(JsonElement value)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.String:
                value.GetString();
                break;
            case JsonValueKind.Array:
                foreach (var element in value.EnumerateArray())
                {
                    ReadAll(element);
                }

                break;
            case JsonValueKind.Object:
                foreach (var property in value.EnumerateObject())
                {
                    _ = property.Name;
                    ReadAll(property.Value);
                }

                break;
        }
    }

    private static void Write(Utf8JsonWriter json, JsonElement item, string type)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, type);
        if (type is "message" or "function_call" or "function_call_output")
        {
            json.WriteString("status"u8, "completed"u8);
        }

        var role = type == "message" ? item.GetProperty("role").GetString() : null;
        foreach (var property in item.EnumerateObject())
        {
            if (property.NameEquals("id") || property.NameEquals("type")
                || (property.NameEquals("status") && type is "message" or "function_call" or "function_call_output"))
            {
                continue;
            }

            if (type == "reasoning" && property.NameEquals("summary") && property.Value.ValueKind == JsonValueKind.Null)
            {
                continue;
            }

            if (type == "message" && property.NameEquals("content"))
            {
                json.WritePropertyName("content"u8);
                WriteContent(json, property.Value, role == "assistant" ? "output_text" : "input_text");
            }
            else
            {
                property.WriteTo(json);
            }
        }

        if (type == "reasoning" && !Has(item, "summary"))
        {
            json.WriteStartArray("summary"u8);
            json.WriteEndArray();
        }

        json.WriteEndObject();
    }

    private static void WriteContent(Utf8JsonWriter json, JsonElement content, string textType)
    {
        json.WriteStartArray();
        if (content.ValueKind == JsonValueKind.String)
        {
            json.WriteStartObject();
            json.WriteString("type"u8, textType);
            json.WriteString("text"u8, content.GetString());
            if (textType == "output_text")
            {
                WriteEmptyArrays(json, default);
            }

            json.WriteEndObject();
        }
        else
        {
            foreach (var part in content.EnumerateArray())
            {
                if (part.GetProperty("type").ValueEquals("output_text"))
                {
                    json.WriteStartObject();
                    foreach (var property in part.EnumerateObject())
                    {
                        if (property.Value.ValueKind != JsonValueKind.Null)
                        {
                            property.WriteTo(json);
                        }
                    }

                    WriteEmptyArrays(json, part);
                    json.WriteEndObject();
                }
                else
                {
                    part.WriteTo(json);
                }
            }
        }

        json.WriteEndArray();
    }

    // Clients that read items take these to be there.
    private static void WriteEmptyArrays(Utf8JsonWriter json, JsonElement part)
    {
        foreach (var name in (ReadOnlySpan<string>)["annotations", "logprobs"])
        {
            if (part.ValueKind != JsonValueKind.Object || !Has(part, name))
            {
                json.WriteStartArray(name);
                json.WriteEndArray();
            }
        }
    }

    private static void Name(JsonElement item, string property, string name)
    {
        if (Text(item, property, name)!.Length == 0)
        {
            throw new OpenAiException($"{name}.{property}", $"Invalid '{name}.{property}': must not be empty.", "empty_string");
        }
    }

    private static string? Text(JsonElement item, string property, string name, bool isRequired = true)
    {
        if (!Has(item, property, out var value))
        {
            return isRequired ? throw OpenAiException.Missing($"{name}.{property}") : null;
        }

        return value.ValueKind == JsonValueKind.String ? value.GetString()
            : throw new OpenAiException($"{name}.{property}", $"Invalid type for '{name}.{property}': expected a text.", "invalid_type");
    }

    // null is like absent.
    private static bool Has(JsonElement item, string property) => Has(item, property, out _);

    private static bool Has(JsonElement item, string property, out JsonElement value) =>
        item.TryGetProperty(property, out value) && value.ValueKind != JsonValueKind.Null;
}

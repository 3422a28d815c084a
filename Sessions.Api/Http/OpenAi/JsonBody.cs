using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sessions.Api.Http.OpenAi;

/// <summary>A request body as it is: a JSON object, whose fields are read one by one.</summary>
[JsonConverter(typeof(Converter))]
internal sealed class JsonBody
{
    private static readonly JsonElement Empty = JsonElement.Parse("{}"u8);

    /// <summary>The object; an empty one where there was no body.</summary>
    public JsonElement Value { get; private init; } = Empty;

    internal sealed class Converter : JsonConverter<JsonBody>
    {
        public override JsonBody Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            if (reader.TokenType != JsonTokenType.StartObject)
            {
                throw new JsonException();
            }

            var start = reader;
            try
            {
                // With the settings of all routes: of a field that is given twice nobody can say which is meant.
                var body = ((JsonConverter<JsonElement>)options.GetConverter(typeof(JsonElement)))
                    .Read(ref reader, typeof(JsonElement), options);
                InputItems.CheckUnicode(body, name: null);
                return new JsonBody { Value = body };
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException)
            {
                var body = JsonElement.ParseValue(ref start);
                InputItems.CheckUnicode(body, name: null);
                throw FindTwice(body, "") is { } twice
                    ? new OpenAiException(twice, $"Invalid '{twice}': must be given once.", "duplicate_parameter")
                    : e;
            }
        }

        private static string? FindTwice(JsonElement value, string name)
        {
            string? twice = null;
            if (value.ValueKind == JsonValueKind.Array)
            {
                var index = 0;
                foreach (var element in value.EnumerateArray())
                {
                    twice ??= element.ValueKind is JsonValueKind.Object or JsonValueKind.Array
                        ? FindTwice(element, $"{name}[{index}]")
                        : null;
                    index++;
                }
            }
            else if (value.ValueKind == JsonValueKind.Object)
            {
                var count = value.GetPropertyCount();
                HashSet<string>? names = count > 1 ? new(count, StringComparer.Ordinal) : null;
                foreach (var property in value.EnumerateObject())
                {
                    var path = name.Length == 0 ? property.Name : $"{name}.{property.Name}";
                    twice ??= names?.Add(property.Name) == false ? Domain.Error.Shorten(path)
                        : property.Value.ValueKind is JsonValueKind.Object or JsonValueKind.Array ? FindTwice(property.Value, path)
                        : null;
                }
            }

            return twice;
        }

        public override void Write(Utf8JsonWriter writer, JsonBody value, JsonSerializerOptions options) => value.Value.WriteTo(writer);
    }
}
